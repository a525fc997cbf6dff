/**
 * Looking for the next request for some microseconds, instead of sleeping at once.
 *
 * A client with one request on the way sends the next as soon as it has its answer. To be woken for it costs more than a request
 * does, most of all in a virtual machine, where an idle processor has to be brought back by the host (20 µs and more). So after
 * a request that left nothing in flight the event loop turns without sleeping for as long as clients of this pace need, but
 * only while the last ones did come that soon: a client that takes its time costs a few turns, and then none.
 */
import { availableParallelism } from "node:os";
import { systemClock } from "@vdo/base";

/** Milliseconds of turning after a request. */
const POLL_MILLISECONDS = 0.05;
/** Requests that come so soon after the one before, with its own time and a sleep between, count for turning; others against it. */
const SOON_MILLISECONDS = 0.1;
const SCORE_MAX = 16;
const SCORE_TO_POLL = 8;
const LATE_COSTS = 4;

export interface BusyPollOptions {
  /** Nothing is in flight: only the client can bring work. */
  isIdle(): boolean;
  /** Monotonic milliseconds. */
  now?: () => number;
  /** Calls after the next look for input, which then does not wait. */
  nextTurn?: (turn: () => void) => void;
  processors?: number;
}

export class BusyPoll {
  readonly #isIdle: () => boolean;
  readonly #now: () => number;
  readonly #nextTurn: (turn: () => void) => void;
  readonly #isUseful: boolean;
  #score = 0;
  #inputAt = Number.NEGATIVE_INFINITY;
  #isTurning = false;

  constructor({
    isIdle,
    now = systemClock.now,
    nextTurn = (turn) => void setImmediate(turn),
    processors = availableParallelism(),
  }: BusyPollOptions) {
    this.#isIdle = isIdle;
    this.#now = now;
    this.#nextTurn = nextTurn;
    // With one processor, the client cannot send anything before we sleep.
    this.#isUseful = processors > 1;
  }

  /** Input came. */
  input(): void {
    if (!this.#isUseful) return;
    const now = this.#now();
    if (now - this.#inputAt <= SOON_MILLISECONDS) this.#score = Math.min(this.#score + 1, SCORE_MAX);
    else this.#score = Math.max(this.#score - LATE_COSTS, 0);
    this.#inputAt = now;
    if (this.#score < SCORE_TO_POLL || this.#isTurning) return;
    this.#isTurning = true;
    this.#nextTurn(this.#turn);
  }

  readonly #turn = (): void => {
    if (this.#isIdle() && this.#now() - this.#inputAt < POLL_MILLISECONDS) this.#nextTurn(this.#turn);
    else this.#isTurning = false;
  };
}
