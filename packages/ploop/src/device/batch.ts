/**
 * One round of the worker: changes to clusters that the top does not hold yet (or no longer), taken together so that one
 * flush and one write of an index page serve all of them.
 *
 * A change is looked at anew when its round comes: an earlier one may have given its cluster a place already.
 */
import { invariant, isZero } from "@vdo/base";
import type { Delta } from "../image/delta.ts";
import { indexOf, type MapPage, NO_PLACE, pageOf } from "./cluster-map.ts";
import type { StackEngine } from "./stack-engine.ts";

export interface Change {
  /** `copy`: into the top, if the delta at `level` provides it. */
  kind: "write" | "discard" | "copy";
  cluster: number;
  /** Bytes into the cluster. */
  offset: number;
  /** Of a write. */
  source?: Uint8Array;
  level?: number;
  /** Zeros take a cluster, too: there may be other data below. */
  keepZeros?: boolean;
  resolve: () => void;
  reject: (error: unknown) => void;
}

/** A cluster that gets a place in the top in this round. */
interface Placement {
  cluster: number;
  page: MapPage;
  place: number;
  /** Where its content comes from: undefined for zeros. */
  from: { delta: Delta; place: number } | undefined;
  changes: Change[];
  failed: boolean;
}

export class Batch {
  readonly #engine: StackEngine;
  readonly #changes: readonly Change[];
  readonly #pages = new Map<number, MapPage>();
  readonly #placements = new Map<number, Placement>();
  #flushFirst = false;

  constructor(engine: StackEngine, changes: readonly Change[]) {
    this.#engine = engine;
    this.#changes = changes;
  }

  /** Never rejects: every change is resolved or rejected. */
  async run(): Promise<void> {
    try {
      const numbers = new Set(this.#changes.map(({ cluster }) => pageOf(cluster)));
      for (const number of numbers) this.#pages.set(number, await this.#engine.map.pin(number));
      if (this.#changes[0]?.kind === "discard") await this.#discard();
      else await this.#write();
    } catch (error) {
      // Changes that ended already do not mind.
      for (const { reject } of this.#changes) reject(error);
    } finally {
      for (const page of this.#pages.values()) this.#engine.map.unpin(page);
    }
  }

  #pageOf(cluster: number): MapPage {
    return this.#pages.get(pageOf(cluster)) as MapPage;
  }

  async #write(): Promise<void> {
    const inPlace: Promise<void>[] = [];
    for (const change of this.#changes) this.#sort(change, inPlace);
    const placements = [...this.#placements.values()];
    try {
      await this.#prepare(placements);
    } catch (error) {
      for (const { place } of placements) if (place !== NO_PLACE) this.#engine.holes.free(place);
      for (const { changes } of placements) for (const { reject } of changes) reject(error);
      await Promise.all(inPlace);
      return;
    }
    const copies: Placement[] = [];
    const writes: Promise<void>[] = [];
    for (const placement of placements) {
      if (placement.from !== undefined && !coversAll(placement.changes, this.#engine.clusterBytes))
        copies.push(placement);
      else writes.push(this.#writeChanges(placement));
    }
    const most = this.#engine.buffersMax;
    for (let first = 0; first < copies.length; first += most) await this.#copy(copies.slice(first, first + most));
    await Promise.all(writes);
    await this.#index(placements.filter(({ failed }) => !failed));
    await Promise.all(inPlace);
  }

  /** Decides what a change needs. */
  #sort(change: Change, inPlace: Promise<void>[]): void {
    const engine = this.#engine;
    const { cluster, kind } = change;
    const page = this.#pageOf(cluster);
    const index = indexOf(cluster);
    const place = page.places[index] as number;
    const level = page.levels[index] as number;
    const placement = this.#placements.get(cluster);
    if (placement !== undefined) {
      placement.changes.push(change);
      return;
    }
    if (kind === "copy" && (place === NO_PLACE || level !== change.level)) {
      change.resolve();
      return;
    }
    if (place !== NO_PLACE && level === engine.topLevel) {
      const offset = place * engine.clusterBytes + change.offset;
      inPlace.push(engine.writeTop(offset, change.source as Uint8Array).then(change.resolve, change.reject));
      return;
    }
    if (place === NO_PLACE && change.keepZeros !== true && isZero(change.source as Uint8Array)) {
      change.resolve();
      return;
    }
    const from = place === NO_PLACE ? undefined : { delta: engine.deltas[level] as Delta, place };
    this.#placements.set(cluster, { cluster, page, place: NO_PLACE, from, changes: [change], failed: false });
  }

  /** Finds places, makes reused ones zero and the file long enough. */
  async #prepare(placements: readonly Placement[]): Promise<void> {
    const engine = this.#engine;
    const { clusterBytes } = engine;
    let end = 0;
    for (const placement of placements) {
      const place = engine.allocate();
      placement.place = place;
      const position = place * clusterBytes;
      // A cluster that is written whole needs no zeros, but nobody may see what was there before.
      if (placement.from !== undefined) this.#flushFirst = true;
      else if (position < engine.zerosFrom) {
        if (!coversAll(placement.changes, clusterBytes)) await engine.zeroTop(position, clusterBytes);
        this.#flushFirst = true;
      }
      end = Math.max(end, position + clusterBytes);
    }
    if (end > engine.top.file.length) {
      await engine.top.file.setLength(engine.extended(end));
      this.#flushFirst = true;
    }
    engine.zerosFrom = Math.max(engine.zerosFrom, end);
  }

  /** Clusters of which nothing else is to be kept: what was written goes to the file as it is. */
  async #writeChanges(placement: Placement): Promise<void> {
    const engine = this.#engine;
    const position = placement.place * engine.clusterBytes;
    const writes: Promise<void>[] = [];
    for (const { offset, source } of placement.changes) {
      if (source !== undefined) writes.push(engine.writeTop(position + offset, source));
    }
    const results = await Promise.allSettled(writes);
    for (const result of results) if (result.status === "rejected") this.#fail(placement, result.reason);
  }

  /** Clusters that a lower delta provides, with the writes of this round over them. */
  async #copy(placements: readonly Placement[]): Promise<void> {
    const engine = this.#engine;
    const buffers = placements.map(() => engine.takeBuffer());
    await Promise.all(placements.map((placement, i) => this.#readOld(placement, buffers[i] as Uint8Array)));
    // Reading took its time: what came in meanwhile for the same clusters goes along.
    engine.takeWrites((change) => {
      const placement = this.#placements.get(change.cluster);
      if (placement === undefined || placement.failed || !placements.includes(placement)) return false;
      placement.changes.push(change);
      return true;
    });
    await Promise.all(placements.map((placement, i) => this.#writeCopy(placement, buffers[i] as Uint8Array)));
    for (const buffer of buffers) engine.giveBuffer(buffer);
  }

  /** Reads what the writes leave of the old content, from the first such byte to the last. */
  async #readOld(placement: Placement, data: Uint8Array): Promise<void> {
    const { from, changes } = placement;
    invariant(from !== undefined, "a copied cluster has a source");
    const { start, end } = uncovered(changes, data.length);
    try {
      await from.delta.file.read(from.place * data.length + start, data.subarray(start, end));
    } catch (error) {
      this.#fail(placement, error);
    }
  }

  async #writeCopy(placement: Placement, data: Uint8Array): Promise<void> {
    if (placement.failed) return;
    for (const { source, offset } of placement.changes) if (source !== undefined) data.set(source, offset);
    try {
      await this.#engine.writeTop(placement.place * data.length, data);
    } catch (error) {
      this.#fail(placement, error);
    }
  }

  #fail(placement: Placement, error: unknown): void {
    if (placement.failed) return;
    placement.failed = true;
    this.#engine.holes.free(placement.place);
    for (const { reject } of placement.changes) reject(error);
  }

  async #index(placements: readonly Placement[]): Promise<void> {
    const engine = this.#engine;
    if (placements.length === 0) return;
    try {
      if (this.#flushFirst) await engine.top.file.flush();
    } catch (error) {
      for (const { changes } of placements) for (const { reject } of changes) reject(error);
      return;
    }
    const byPage = new Map<MapPage, Placement[]>();
    for (const placement of placements) {
      const list = byPage.get(placement.page) ?? [];
      list.push(placement);
      byPage.set(placement.page, list);
    }
    await Promise.all([...byPage].map(([page, list]) => this.#writeIndex(page, list)));
  }

  /**
   * Writes one page and publishes it. When that fails the places stay taken: the page on disk may name them or not, so
   * nothing else may get them before the image is opened anew.
   */
  async #writeIndex(page: MapPage, placements: readonly Placement[]): Promise<void> {
    const engine = this.#engine;
    try {
      await engine.writePage(page, new Map(placements.map(({ cluster, place }) => [cluster, place])));
    } catch (error) {
      for (const { changes } of placements) for (const { reject } of changes) reject(error);
      return;
    }
    for (const { cluster, place, changes } of placements) {
      page.places[indexOf(cluster)] = place;
      page.levels[indexOf(cluster)] = engine.topLevel;
      for (const { resolve } of changes) resolve();
    }
  }

  /**
   * Whole clusters that nobody needs any more. In a single delta the entry goes and the cluster is free; above other deltas
   * it must stay, or their data would come back: it becomes zeros.
   */
  async #discard(): Promise<void> {
    const engine = this.#engine;
    const { clusterBytes, topLevel } = engine;
    const freed = new Map<number, number>();
    const zeroed: number[] = [];
    for (const { cluster } of this.#changes) {
      const page = this.#pageOf(cluster);
      const place = page.places[indexOf(cluster)] as number;
      if (place === NO_PLACE || page.levels[indexOf(cluster)] !== topLevel) continue;
      if (topLevel === 0) freed.set(cluster, place);
      else zeroed.push(place);
    }
    if (zeroed.length > 0 && !(await engine.punchTop(zeroed))) {
      await Promise.all(zeroed.map((place) => engine.zeroTop(place * clusterBytes, clusterBytes)));
    }
    if (freed.size > 0) await this.#unmap(freed);
    for (const { resolve } of this.#changes) resolve();
  }

  async #unmap(freed: ReadonlyMap<number, number>): Promise<void> {
    const engine = this.#engine;
    const entries = new Map([...freed.keys()].map((cluster) => [cluster, NO_PLACE]));
    const pages = new Set([...freed.keys()].map((cluster) => this.#pageOf(cluster)));
    await Promise.all([...pages].map((page) => engine.writePage(page, entries)));
    await engine.top.file.flush();
    for (const cluster of freed.keys()) this.#pageOf(cluster).places[indexOf(cluster)] = NO_PLACE;
    await engine.epochs.drain();
    await engine.punchTop([...freed.values()]);
    for (const place of freed.values()) engine.holes.free(place);
  }
}

/** The writes together leave nothing of the old content. */
function coversAll(changes: readonly Change[], length: number): boolean {
  const { start, end } = uncovered(changes, length);
  return start === end;
}

/** The smallest range that has all bytes of a cluster that no write covers; empty at `length` when there is none. */
function uncovered(changes: readonly Change[], length: number): { start: number; end: number } {
  let start = 0;
  let end = length;
  for (const { offset, source } of changes.toSorted((a, b) => a.offset - b.offset)) {
    if (source !== undefined && offset <= start) start = Math.max(start, offset + source.length);
  }
  if (start === length) return { start, end };
  for (const { offset, source } of changes.toSorted((a, b) => endOf(b) - endOf(a))) {
    if (source !== undefined && offset + source.length >= end) end = Math.min(end, offset);
  }
  return { start, end };
}

function endOf({ offset, source }: Change): number {
  return offset + (source?.length ?? 0);
}
