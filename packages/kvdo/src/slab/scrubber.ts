/**
 * Recovers slabs while the volume is in use (Linux 6.12, slab scrubbing): one after another, those that somebody waits for
 * first. Writes that find no free block wait here until a slab is recovered; only when none is left is the volume full.
 */
import { type DataVio, VioQueue, type VioStep } from "../data-path/data-vio.ts";
import type { Slab } from "./slab.ts";
import type { SlabDepot } from "./slab-depot.ts";

export class Scrubber {
  readonly #depot: SlabDepot;
  #slabs: Slab[] = [];
  #total = 0;
  #running: Promise<void> | null = null;
  #isStopped = false;
  readonly #waiting = new VioQueue();
  /** Called when a slab was recovered, with the slabs left. */
  onProgress: (left: number) => void = () => undefined;

  constructor(depot: SlabDepot) {
    this.#depot = depot;
  }

  /** Slabs left to be recovered. */
  get left(): number {
    return this.#slabs.length;
  }

  /** Share of the slabs that are recovered, in per cent. */
  get percentage(): number {
    const total = Math.max(this.#total, 1);
    return Math.floor(((total - this.#slabs.length) * 100) / total);
  }

  add(slabs: readonly Slab[]): void {
    this.#slabs.push(...slabs);
    this.#total = this.#depot.slabs.length;
  }

  /** `vio.onReady` is called when there may be space again, or when no slab is left to wait for. */
  wait(vio: DataVio, onReady: VioStep): void {
    vio.onReady = onReady;
    this.#waiting.push(vio);
    this.start();
  }

  /** Recovers the slabs that are wanted, and no others. */
  async runWanted(): Promise<void> {
    for (let slab = this.#take(true); slab !== null; slab = this.#take(true)) await this.#scrub(slab);
  }

  /** Begins, or goes on, to recover all slabs. */
  start(): void {
    this.#isStopped = false;
    this.#running ??= this.#run()
      // The volume is in read-only mode then.
      .catch(() => undefined)
      .finally(() => {
        this.#running = null;
      });
  }

  async #run(): Promise<void> {
    while (!this.#isStopped && !this.#depot.notifier.isReadOnly) {
      const slab = this.#take(false);
      if (slab === null) return;
      await this.#scrub(slab);
    }
  }

  #take(onlyWanted: boolean): Slab | null {
    const wanted = this.#slabs.findIndex((slab) => slab.isWanted);
    if (wanted >= 0) return this.#slabs[wanted] ?? null;
    return onlyWanted ? null : (this.#slabs[0] ?? null);
  }

  async #scrub(slab: Slab): Promise<void> {
    try {
      await slab.scrub();
    } catch (error) {
      this.#depot.notifier.enter(error);
      throw error;
    }
    this.#slabs.splice(this.#slabs.indexOf(slab), 1);
    slab.isWanted = false;
    this.#depot.open(slab);
    this.onProgress(this.#slabs.length);
    slab.journal.resume();
    this.#wake();
  }

  #wake(): void {
    const waiting = new VioQueue();
    waiting.append(this.#waiting);
    for (let vio = waiting.shift(); vio !== null; vio = waiting.shift()) vio.onReady(vio);
  }

  /** The volume became read-only: those who wait get its refusal. */
  failWaiting(): void {
    for (let vio = this.#waiting.shift(); vio !== null; vio = this.#waiting.shift()) {
      vio.error ??= this.#depot.notifier.refusal();
      vio.onReady(vio);
    }
  }

  /** Stops after the slab that is being recovered. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#running;
  }
}
