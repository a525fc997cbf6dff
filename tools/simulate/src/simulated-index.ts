/**
 * A deduplication index that costs nothing: a map from names to advice, which outlives crashes and rebuilds, so that advice
 * may be stale, of another future, or of a block that is something else by now. Some answers come at once, some later, some
 * so late that nobody waits for them any more, and some records are forgotten: all of that an index may do.
 */
import { type Clock, Random } from "@vdo/base";
import { UdsIndex, type UdsIndexOptions, UdsOperation, type UdsRequest } from "@vdo/uds";

/** Longer than the engine waits for an answer. */
const LATE_MS = 6_000;

export class Advice {
  readonly records = new Map<string, Uint8Array>();
  readonly random: Random;

  constructor(seed: number) {
    this.random = new Random(seed);
  }
}

class SimulatedIndex {
  readonly ready = Promise.resolve();
  readonly #advice: Advice;
  readonly #clock: Clock;

  constructor(advice: Advice, clock: Clock) {
    this.#advice = advice;
    this.#clock = clock;
  }

  submit(request: UdsRequest): void {
    const { random } = this.#advice;
    const dice = random.below(100);
    if (dice < 50) this.#answer(request);
    else this.#clock.after(dice === 99 ? LATE_MS : random.below(5), () => this.#answer(request));
  }

  #answer(request: UdsRequest): void {
    const { records, random } = this.#advice;
    const name = Buffer.from(request.name).toString("latin1");
    const known = random.chance(0.05) ? undefined : records.get(name);
    request.error = undefined;
    request.found = known !== undefined;
    if (known !== undefined) request.oldValue.set(known);
    const isNew = request.operation === UdsOperation.POST && known === undefined;
    if (isNew || request.operation === UdsOperation.UPDATE) records.set(name, request.value.slice());
    request.onDone(request);
  }

  async suspend(): Promise<void> {}

  async resume(): Promise<void> {}

  async close(): Promise<void> {}

  statistics(): Record<string, number> {
    return {};
  }
}

/** Runs `work`; indexes that are opened meanwhile are simulated, with the records of `advice`. */
export async function withSimulatedIndex<T>(advice: Advice, work: () => Promise<T>): Promise<T> {
  const { start } = UdsIndex;
  UdsIndex.start = ({ clock }: UdsIndexOptions = {}) =>
    new SimulatedIndex(advice, clock as Clock) as unknown as UdsIndex;
  try {
    return await work();
  } finally {
    UdsIndex.start = start;
  }
}
