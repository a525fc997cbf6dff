/**
 * Discards freed blocks on the storage, so that a sparse file, a thin disk or an SSD gets the space back.
 *
 * Why no recovery can need a block that is discarded here: a count becomes 0 in memory only after the journal entry that takes
 * the last reference away is durable (a journal block is written with a flush before it and FUA), and whatever a crash leaves of
 * the block map, that entry is replayed over it. From then on the engine may write new data into the block, and overwriting is
 * all that a discard does. Why it does not hit new data: while it is under way its blocks are held, which nobody allocates and
 * no deduplication shares; a write to them begins after it has ended, so it is the later version for the storage, too.
 *
 * Freed blocks are noted in one bit each, slab by slab, and discarded in rounds: aligned groups whose blocks are all free, as
 * runs as long as they come. Other blocks keep their bit until their neighbours are freed. When a slab is opened, all of its
 * free blocks are gone through once: what was freed before a crash, or without this option, is given back then.
 *
 * A discard is advice: the first one that fails ends them all, with a line in the log, and harms nothing.
 */
import { type Clock, errorMessage } from "@vdo/base";
import type { ReadOnlyNotifier } from "../io/read-only.ts";
import type { StorageIo } from "../io/storage-io.ts";
import type { Slab } from "./slab.ts";

/** Discards under way at a time, and blocks of the longest: what they hold is missing to the allocator meanwhile. */
const IN_FLIGHT_MAX = 4;
const RUN_BLOCKS_MAX = 32768;

/** Free blocks between freed ones that are discarded with them. */
const GAP_BLOCKS_MAX = 256;

export interface StorageDiscardsOptions {
  io: StorageIo;
  notifier: ReadOnlyNotifier;
  clock: Clock;
  log: (level: "info" | "warning" | "error", text: string) => void;
  /** Blocks of a group; groups are aligned on the device. */
  groupBlocks: number;
  /** Milliseconds that freed blocks wait for their neighbours. */
  delayMs: number;
  /** Keeps free blocks of a slab from being used, and lets them go again. */
  hold: (slab: Slab, first: number, count: number) => void;
  release: (slab: Slab, first: number, count: number) => void;
}

interface Round {
  slab: Slab;
  bits: Uint8Array;
  cursor: number;
}

export class StorageDiscards {
  readonly #o: StorageDiscardsOptions;
  /** Bits of freed blocks, by slab. */
  readonly #noted = new Map<Slab, Uint8Array>();
  /** Slabs with new bits, and slabs to be gone through as a whole. */
  readonly #touched = new Set<Slab>();
  readonly #sweeps: Slab[] = [];
  /** What the present round still has to go through. */
  #due: { slab: Slab; isSweep: boolean }[] = [];
  #isFinishing = false;
  #round: Round | null = null;
  #inFlight = 0;
  #isRunning = false;
  #isEnded = false;
  #cancelTimer: (() => void) | null = null;
  #idleWaiters: (() => void)[] = [];

  constructor(options: StorageDiscardsOptions) {
    this.#o = options;
    options.notifier.onEnter(() => this.#end());
  }

  /** Block `sbn` of `slab` holds nothing any more, durably. */
  note(slab: Slab, sbn: number): void {
    if (this.#isEnded) return;
    const bits = this.#bitsOf(slab);
    bits[sbn >>> 3] = (bits[sbn >>> 3] as number) | (1 << (sbn & 7));
    this.#touched.add(slab);
    this.#schedule();
  }

  /** All free blocks of a slab that is opened are gone through; of one that was never used there are none to give back. */
  sweep(slab: Slab): void {
    if (this.#isEnded || slab.journal.isBlank) return;
    this.#sweeps.push(slab);
    this.#schedule();
  }

  /** Begins, or goes on after {@link stop}. */
  start(): void {
    this.#isRunning = true;
    this.#schedule();
  }

  /** Nothing more is begun; what is under way ends with the depot's I/O. */
  stop(): void {
    this.#isRunning = false;
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    if (this.#round !== null) this.#touched.add(this.#round.slab);
    this.#round = null;
  }

  /** Resolves when all that can be discarded is. */
  async finish(): Promise<void> {
    if (this.#isEnded || !this.#isRunning) return;
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    const idle = new Promise<void>((resolve) => {
      this.#idleWaiters.push(resolve);
    });
    this.#isFinishing = true;
    this.#pump();
    await idle;
    this.#isFinishing = false;
  }

  #bitsOf(slab: Slab): Uint8Array {
    let bits = this.#noted.get(slab);
    if (bits === undefined) {
      bits = new Uint8Array(Math.ceil(slab.counts.dataBlocks / 8));
      this.#noted.set(slab, bits);
    }
    return bits;
  }

  #schedule(): void {
    if (!this.#isRunning || this.#cancelTimer !== null || this.#round !== null || this.#inFlight > 0) return;
    if (this.#touched.size + this.#sweeps.length + this.#due.length === 0) return;
    this.#cancelTimer = this.#o.clock.after(this.#o.delayMs, () => {
      this.#cancelTimer = null;
      this.#collect();
      this.#pump();
    });
  }

  /** What was freed until now is this round's; what is freed meanwhile waits for its neighbours till the next. */
  #collect(): void {
    const swept = this.#sweeps.splice(0).map((slab) => ({ slab, isSweep: true }));
    this.#due = [...swept, ...[...this.#touched].map((slab) => ({ slab, isSweep: false }))];
    this.#touched.clear();
  }

  readonly #pump = (): void => {
    while (this.#isRunning && !this.#isEnded && this.#inFlight < IN_FLIGHT_MAX) {
      this.#round ??= this.#nextRound();
      if (this.#round === null) break;
      const found = this.#nextRun(this.#round);
      if (found === null) this.#round = null;
      else void this.#discard(this.#round.slab, found.first, found.count);
    }
    if (this.#inFlight > 0) return;
    for (const wake of this.#idleWaiters.splice(0)) wake();
    this.#schedule();
  };

  #nextRound(): Round | null {
    if (this.#due.length === 0 && this.#isFinishing) this.#collect();
    const next = this.#due.shift();
    if (next === undefined) return null;
    const bits = this.#bitsOf(next.slab);
    if (next.isSweep) bits.fill(0xff);
    return { slab: next.slab, bits, cursor: 0 };
  }

  /**
   * The next run of whole groups, all free, with noted blocks in the first and the last; gaps of free groups between them are
   * discarded along, as compression leaves them. Bits of the run are cleared.
   */
  #nextRun(round: Round): { first: number; count: number } | null {
    const { groupBlocks, io } = this.#o;
    const { slab, bits } = round;
    const { dataBlocks } = slab.counts;
    let first = -1;
    let end = -1;
    // The first aligned group of the slab: groups are counted from the beginning of the device.
    if (round.cursor === 0) round.cursor = (groupBlocks - (io.deviceBlock(slab.start) % groupBlocks)) % groupBlocks;
    while (round.cursor + groupBlocks <= dataBlocks) {
      const at = round.cursor;
      const isWanted = hasBit(bits, at, groupBlocks);
      if (!isWanted && first < 0) {
        round.cursor = this.#skip(bits, at, dataBlocks);
        continue;
      }
      const isTaken = isWanted && (first < 0 || at - first < RUN_BLOCKS_MAX) && slab.counts.areFree(at, groupBlocks);
      if (isTaken) {
        clearBits(bits, at, groupBlocks);
        if (first < 0) first = at;
        end = at + groupBlocks;
      } else if (first >= 0) {
        const mayBeGap = !isWanted && at - end < GAP_BLOCKS_MAX && slab.counts.areFree(at, groupBlocks);
        if (!mayBeGap) break;
      }
      round.cursor = at + groupBlocks;
    }
    if (first >= 0) return { first, count: end - first };
    if (!bits.some((byte) => byte !== 0)) this.#noted.delete(slab);
    return null;
  }

  /** The first group at or after `at` that may have a bit. */
  #skip(bits: Uint8Array, at: number, dataBlocks: number): number {
    const { groupBlocks } = this.#o;
    let byte = (at + groupBlocks) >>> 3;
    while (byte < bits.length && bits[byte] === 0) byte++;
    const groups = Math.max(1, Math.floor((Math.min(byte * 8, dataBlocks) - at) / groupBlocks));
    return at + groups * groupBlocks;
  }

  async #discard(slab: Slab, first: number, count: number): Promise<void> {
    const { io, hold, release, log } = this.#o;
    this.#inFlight++;
    hold(slab, first, count);
    try {
      await io.discard(slab.start + first, count);
    } catch (error) {
      if (!this.#isEnded)
        log("warning", `freed blocks are not discarded on the storage any more: ${errorMessage(error)}`);
      this.#end();
    }
    this.#inFlight--;
    release(slab, first, count);
    this.#pump();
  }

  #end(): void {
    this.#isEnded = true;
    this.stop();
    this.#noted.clear();
    this.#touched.clear();
    this.#sweeps.length = 0;
    this.#due = [];
    this.#round = null;
    for (const wake of this.#idleWaiters.splice(0)) wake();
  }
}

function hasBit(bits: Uint8Array, first: number, count: number): boolean {
  for (let i = first; i < first + count; i++) if (((bits[i >>> 3] as number) & (1 << (i & 7))) !== 0) return true;
  return false;
}

function clearBits(bits: Uint8Array, first: number, count: number): void {
  for (let i = first; i < first + count; i++) bits[i >>> 3] = (bits[i >>> 3] as number) & ~(1 << (i & 7));
}
