/**
 * One delta index of the volume index: name → chapter, for all names, for hooks, or for all but hooks.
 *
 * A payload is a virtual chapter number modulo 2^chapterBits. Entries of expired chapters stay until their list is next
 * looked at: `flushChapter` of a list is a lower bound of the chapters in it, and a look-up that finds it below the
 * oldest valid chapter removes what has expired before believing anything.
 */
import type { SubIndexGeometry } from "../geometry.ts";
import { volumeAddress, volumeList } from "../record-place.ts";
import { deltaCode } from "./delta-code.ts";
import { DeltaSegment } from "./delta-segment.ts";

/** Lists per segment at most, a power of two: 2^20 lists of 752 bytes stay below 1 GiB. */
const SEGMENT_LISTS_MAX = 2 ** 20;

export class SubIndex {
  readonly geometry: SubIndexGeometry;
  readonly segments: readonly DeltaSegment[];
  readonly flushChapter: Float64Array;
  /** Oldest and newest virtual chapter regarded as indexed. */
  low = 0;
  high = 0;
  /** Chapters expired early because the memory was nearly full. */
  earlyFlushes = 0;

  /** Answer of {@link get}: an entry may be (collision: is) that of the name. */
  found = false;
  isCollision = false;
  /** Virtual chapter of the entry found. */
  chapter = 0;

  readonly #segmentLists: number;
  readonly #mask: number;
  #segment: DeltaSegment;
  #address = 0;

  constructor(geometry: SubIndexGeometry) {
    this.geometry = geometry;
    const { listCount, zoneMemory } = geometry;
    this.#segmentLists = Math.min(listCount, SEGMENT_LISTS_MAX);
    this.#mask = 2 ** geometry.chapterBits - 1;
    this.flushChapter = new Float64Array(listCount);
    const code = deltaCode(geometry.meanDelta);
    const segments: DeltaSegment[] = [];
    for (let first = 0; first < listCount; first += this.#segmentLists) {
      const lists = Math.min(this.#segmentLists, listCount - first);
      const memoryBytes = Math.floor(zoneMemory * (lists / listCount));
      segments.push(new DeltaSegment({ listCount: lists, memoryBytes, code, valueBits: geometry.chapterBits }));
    }
    this.segments = segments;
    this.#segment = segments[0] as DeltaSegment;
  }

  get recordCount(): number {
    return this.#sum("recordCount");
  }

  get collisionCount(): number {
    return this.#sum("collisionCount");
  }

  get discardCount(): number {
    return this.#sum("discardCount");
  }

  get overflowCount(): number {
    return this.#sum("overflowCount");
  }

  #sum(field: "recordCount" | "collisionCount" | "discardCount" | "overflowCount" | "usedBits"): number {
    let sum = 0;
    for (const segment of this.segments) sum += segment[field];
    return sum;
  }

  /** Forgets everything. */
  clear(): void {
    for (const segment of this.segments) segment.clear();
    this.flushChapter.fill(0);
    this.low = 0;
    this.high = 0;
  }

  segmentOf(list: number): DeltaSegment {
    return this.segments[Math.floor(list / this.#segmentLists)] as DeltaSegment;
  }

  /** Number of `list` within its segment. */
  localList(list: number): number {
    return list % this.#segmentLists;
  }

  /** Virtual chapter `chapter` becomes the open one; the oldest are no longer indexed. */
  openChapter(chapter: number): void {
    const { chapterCount, zoneBitsMax, chapterSizeBits } = this.geometry;
    this.low = Math.max(0, chapter - chapterCount + 1);
    this.high = chapter;
    const used = this.#sum("usedBits");
    if (used <= zoneBitsMax) return;
    const expired = 1 + Math.floor((used - zoneBitsMax) / chapterSizeBits);
    const before = this.low;
    if (expired === 1) this.low += 1;
    else this.low = Math.min(this.low + expired, this.high);
    this.earlyFlushes += this.low - before;
  }

  /** Looks `name` up, after removing what has expired from its list. The answer is in the fields. */
  get(name: Uint8Array): void {
    const { addressBits, listCount } = this.geometry;
    const list = volumeList(name, addressBits, listCount);
    const address = volumeAddress(name, addressBits);
    const segment = this.segmentOf(list);
    const local = this.localList(list);
    if ((this.flushChapter[list] as number) < this.low) this.#flush(segment, list);
    segment.find(local, address, name);
    this.#segment = segment;
    this.#address = address;
    this.#answer(segment);
  }

  #answer(segment: DeltaSegment): void {
    const { cursor } = segment;
    this.found = cursor.found;
    this.isCollision = cursor.isCollision;
    if (cursor.found) this.chapter = this.#chapterOf(cursor.value());
  }

  /** -1 when no chapter that is indexed would hold `name`; changes nothing. */
  peek(name: Uint8Array): number {
    const { addressBits, listCount } = this.geometry;
    const list = volumeList(name, addressBits, listCount);
    const segment = this.segmentOf(list);
    segment.find(this.localList(list), volumeAddress(name, addressBits), name);
    if (!segment.cursor.found) return -1;
    const chapter = this.#chapterOf(segment.cursor.value());
    return chapter > this.high ? -1 : chapter;
  }

  #flush(segment: DeltaSegment, list: number): void {
    const mask = this.#mask;
    const { low } = this;
    const from = this.flushChapter[list] as number;
    const expired = low - from > mask ? mask + 1 : low - from;
    const first = from % (mask + 1);
    const nearest = segment.expire(this.localList(list), first, expired, mask);
    this.flushChapter[list] = Math.min(this.#chapterOf((first + nearest) & mask), this.high);
  }

  #chapterOf(payload: number): number {
    const size = this.#mask + 1;
    return this.low + ((payload - (this.low % size) + size) & this.#mask);
  }

  /**
   * Records, after {@link get}, that `name` is in `chapter`. False on overflow; the record is then to be dropped.
   * Must not be called when `get` found a collision entry.
   */
  put(name: Uint8Array, chapter: number): boolean {
    return this.#segment.insert(this.#address, chapter % (this.#mask + 1), name);
  }

  /** Changes, after {@link get}, the chapter of the entry found. */
  setChapter(chapter: number): void {
    this.#segment.setValue(chapter % (this.#mask + 1));
  }

  /** Removes, after {@link get}, the entry found. */
  remove(): void {
    this.#segment.remove();
    this.found = false;
  }
}
