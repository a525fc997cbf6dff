/**
 * The order in which requests run. What they do is not known here.
 *
 *     submit ─▶ [queue, while held or stalled] ─▶ lane free? ─▶ execute ─▶ done
 *                                                  │ no          │ has to wait
 *                                                  ▼             ▼
 *                                            behind the one   parked ─▶ resumed ─▶ [retry queue, while stalled] ─▶ execute
 *                                            parked in its lane
 *
 * - A lane is a class of names; while one of its requests is parked, later ones of the lane line up behind it. So requests
 *   of one name keep their order.
 * - Stalled: nothing may run, because the next chapter is full before the last one is written, or a sparse chapter is
 *   being read.
 * - Held: a save or a close waits for everything under way; new requests queue up.
 * - A request submitted from within `onDone` queues up and runs after, so that streams of requests do not recurse.
 */
import { invariant } from "@vdo/base";
import type { UdsRequest } from "../request.ts";
import { RequestQueue } from "./request-queue.ts";

/** Lanes, a power of two: more than requests are usually parked. */
const LANES = 4096;

export class RequestGates {
  /** Runs a request; false when it was parked and will be resumed. */
  readonly #execute: (request: UdsRequest) => boolean;
  /** True when nothing else is going on that a hold has to wait for. */
  readonly #isQuiet: () => boolean;
  readonly #queue = new RequestQueue();
  readonly #retries = new RequestQueue();
  readonly #lanes: (UdsRequest | undefined)[] = new Array(LANES).fill(undefined);
  /** Lanes that are held by a parked request. */
  #parked = 0;
  #running = false;
  #held = false;
  #stalled = false;
  #idleWaiter: (() => void) | undefined;

  constructor(execute: (request: UdsRequest) => boolean, isQuiet: () => boolean) {
    this.#execute = execute;
    this.#isQuiet = isQuiet;
  }

  submit(request: UdsRequest): void {
    invariant(!request.pending, "a request is not submitted again before it is done");
    request.pending = true;
    if (this.#running || this.#held || this.#stalled || this.#queue.length > 0) {
      this.#queue.push(request);
      return;
    }
    this.#running = true;
    try {
      this.#start(request);
    } finally {
      this.#running = false;
    }
    if (this.#queue.length > 0) this.#drain();
  }

  /** A parked request can go on. */
  resume(request: UdsRequest): void {
    this.#retries.push(request);
    this.#drain();
  }

  /** Nothing runs until {@link unstall}. */
  stall(): void {
    this.#stalled = true;
  }

  /** Ends the stall; `request` was parked by it and goes first. */
  unstall(request?: UdsRequest): void {
    this.#stalled = false;
    if (request !== undefined) this.#retries.push(request);
    this.#drain();
  }

  /** Runs what has queued up, as far as the gates are open. */
  #drain(): void {
    if (this.#running) return;
    this.#running = true;
    try {
      while (!this.#stalled) {
        const retry = this.#retries.shift();
        if (retry !== undefined) {
          this.#rerun(retry);
          continue;
        }
        const request = this.#held ? undefined : this.#queue.shift();
        if (request === undefined) break;
        this.#start(request);
      }
    } finally {
      this.#running = false;
    }
    this.checkIdle();
  }

  #laneOf(request: UdsRequest): number {
    return (((request.name[0] as number) << 8) | (request.name[1] as number)) & (LANES - 1);
  }

  #start(request: UdsRequest): void {
    if (this.#parked > 0) {
      let ahead = this.#lanes[this.#laneOf(request)];
      if (ahead !== undefined) {
        while (ahead.laneNext !== undefined) ahead = ahead.laneNext;
        ahead.laneNext = request;
        return;
      }
    }
    if (this.#execute(request)) {
      request.pending = false;
      request.onDone(request);
      return;
    }
    this.#lanes[this.#laneOf(request)] = request;
    this.#parked++;
  }

  /** Runs a request that was parked, and then those behind it in its lane. */
  #rerun(first: UdsRequest): void {
    let request: UdsRequest | undefined = first;
    while (request !== undefined && this.#execute(request)) {
      const following: UdsRequest | undefined = request.laneNext;
      request.laneNext = undefined;
      this.#lanes[this.#laneOf(request)] = following;
      if (following === undefined) this.#parked--;
      request.pending = false;
      request.onDone(request);
      if (following !== undefined && this.#stalled) {
        this.#retries.push(following);
        return;
      }
      request = following;
    }
  }

  /** Resolves when nothing is under way. Requests submitted since wait until {@link release}. */
  async hold(): Promise<void> {
    this.#held = true;
    while (!this.#isIdle) {
      await new Promise<void>((resolve) => {
        this.#idleWaiter = resolve;
      });
    }
  }

  /** Lets queued and new requests run. */
  release(): void {
    this.#held = false;
    this.#drain();
  }

  get #isIdle(): boolean {
    return this.#parked === 0 && this.#retries.length === 0 && !this.#stalled && this.#isQuiet();
  }

  /** To be called when nothing else may be going on any more. */
  checkIdle(): void {
    if (this.#idleWaiter === undefined || !this.#isIdle) return;
    const waiter = this.#idleWaiter;
    this.#idleWaiter = undefined;
    waiter();
  }

  /** Answers every queued request with `error`, after {@link hold}, when the index will not run again. */
  refuseQueued(error: unknown): void {
    for (let request = this.#queue.shift(); request !== undefined; request = this.#queue.shift()) {
      request.found = false;
      request.error = error;
      request.pending = false;
      request.onDone(request);
    }
  }
}
