/**
 * The engine's side of the deduplication index (Linux 6.12, dedupe contexts): advice only, never needed for correctness.
 *
 * A query that is not answered in time is given up, and its vio goes on as if nothing was known; its context is free
 * again when the index finally answers. Without an open index, or without a free context, no query is made.
 */
import type { Clock } from "@vdo/base";
import { type UdsIndex, UdsOperation, UdsRequest } from "@vdo/uds";
import { DATA_VIOS_MAX, INDEX_TIMEOUT_MS, INDEX_TIMER_MINIMUM_MS } from "../constants.ts";
import type { DataVio, VioStep } from "../data-path/data-vio.ts";
import { readAdvicePbn, readAdviceState, writeAdvice } from "../format/index.ts";
import type { SlabDepot } from "../slab/slab-depot.ts";
import type { VdoStatistics } from "../statistics/index.ts";

class QueryContext {
  readonly request = new UdsRequest();
  vio: DataVio | null = null;
  submitted = 0;
}

export class IndexClient {
  readonly #statistics: VdoStatistics;
  readonly #depot: SlabDepot;
  readonly #clock: Clock;
  readonly #log: (text: string) => void;
  readonly #free: QueryContext[] = [];
  /** Queries under way, oldest first. */
  readonly #pending = new Set<QueryContext>();
  #created = 0;
  #index: UdsIndex | null = null;
  #cancelTimer: (() => void) | null = null;
  #idleWaiters: (() => void)[] = [];
  /** Queries are made (deduplication is on). */
  isEnabled = true;

  constructor(options: { statistics: VdoStatistics; depot: SlabDepot; clock: Clock; log: (text: string) => void }) {
    this.#statistics = options.statistics;
    this.#depot = options.depot;
    this.#clock = options.clock;
    this.#log = options.log;
  }

  /** The open index, or null while there is none. */
  setIndex(index: UdsIndex | null): void {
    this.#index = index;
  }

  /** Asks where `vio`'s content may be, and records its own allocation if it has one; then calls `step(vio)`. */
  query(vio: DataVio, step: VioStep): void {
    vio.isDuplicate = false;
    const hasAllocation = vio.allocationLock !== null;
    const pbn = vio.allocationLock?.pbn ?? 0;
    this.#submit(vio, step, hasAllocation ? UdsOperation.POST : UdsOperation.QUERY, pbn, 1);
  }

  /** Records that `vio`'s content is at (`pbn`, `state`) now; then calls `step(vio)`. */
  update(vio: DataVio, pbn: number, state: number, step: VioStep): void {
    this.#submit(vio, step, UdsOperation.UPDATE, pbn, state);
  }

  #submit(vio: DataVio, step: VioStep, operation: UdsOperation, pbn: number, state: number): void {
    const index = this.#index;
    if (index === null || !this.isEnabled) {
      step(vio);
      return;
    }
    const context = this.#take();
    if (context === null) {
      this.#statistics.dedupeAdviceTimeouts++;
      step(vio);
      return;
    }
    context.vio = vio;
    context.submitted = this.#clock.now();
    vio.onAdvised = step;
    const { request } = context;
    request.name.set(vio.name);
    request.operation = operation;
    writeAdvice(request.value, 0, pbn, state);
    this.#pending.add(context);
    this.#statistics.hashLock.currDedupeQueries = this.#pending.size;
    index.submit(request);
    if (this.#pending.size > 0) this.#armTimer(INDEX_TIMEOUT_MS);
  }

  #take(): QueryContext | null {
    const free = this.#free.pop();
    if (free !== undefined) return free;
    if (this.#created >= DATA_VIOS_MAX) return null;
    this.#created++;
    const context = new QueryContext();
    context.request.context = context;
    context.request.onDone = this.#answered;
    return context;
  }

  readonly #answered = (request: UdsRequest): void => {
    const context = request.context as QueryContext;
    const { vio } = context;
    context.vio = null;
    this.#pending.delete(context);
    this.#statistics.hashLock.currDedupeQueries = this.#pending.size;
    this.#free.push(context);
    if (vio !== null) {
      if (request.operation !== UdsOperation.UPDATE) this.#takeAdvice(vio, request);
      vio.onAdvised(vio);
    }
    if (this.#pending.size === 0) this.#wake();
  };

  #takeAdvice(vio: DataVio, request: UdsRequest): void {
    if (request.error !== undefined || !request.found) return;
    const bytes = request.oldValue;
    if (bytes[0] !== 2) {
      this.#log(`advice of unknown version ${bytes[0]} ignored`);
      return;
    }
    const state = readAdviceState(bytes, 0);
    const pbn = readAdvicePbn(bytes, 0);
    if (state === 0 || !this.#depot.isDataBlock(pbn)) {
      this.#statistics.errors.invalidAdvicePBNCount++;
      return;
    }
    vio.isDuplicate = true;
    vio.advicePbn = pbn;
    vio.adviceState = state;
  }

  #armTimer(milliseconds: number): void {
    this.#cancelTimer ??= this.#clock.after(Math.max(milliseconds, INDEX_TIMER_MINIMUM_MS), () => {
      this.#cancelTimer = null;
      this.#expire();
    });
  }

  #expire(): void {
    const now = this.#clock.now();
    for (const context of this.#pending) {
      const left = context.submitted + INDEX_TIMEOUT_MS - now;
      if (left > 0) {
        this.#armTimer(left);
        return;
      }
      const { vio } = context;
      if (vio === null) continue;
      context.vio = null;
      this.#statistics.dedupeAdviceTimeouts++;
      vio.onAdvised(vio);
    }
  }

  #wake(): void {
    const waiters = this.#idleWaiters;
    this.#idleWaiters = [];
    for (const wake of waiters) wake();
  }

  /** Resolves when the index has answered everything. */
  async drain(): Promise<void> {
    while (this.#pending.size > 0) {
      await new Promise<void>((resolve) => {
        this.#idleWaiters.push(resolve);
      });
    }
    this.#cancelTimer?.();
    this.#cancelTimer = null;
  }
}
