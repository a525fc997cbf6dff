/** A device that fails, or dawdles, by rule. */
import { type Clock, VdoError } from "@vdo/base";
import type { BlockDevice, Extent, WriteOptions, ZeroOptions } from "../block-device.ts";
import { writeVector } from "../block-device.ts";
import { zeroBlocks } from "../slice-device.ts";

export type FaultyOperation = "read" | "write" | "flush" | "discard";

/** When and how to fail. A rule without conditions matches everything. Zeroing counts as writing. */
export interface FaultRule {
  operation?: FaultyOperation;
  /** Matches when any block from `start` to `start + count - 1` is touched. A flush touches none: it ignores this. */
  blocks?: { start: number; count: number };
  /** Matches of the other conditions to let pass before the first failure. Default 0. */
  after?: number;
  /** How many failures, then the rule is spent. Default: no end. */
  times?: number;
  /** What happens: `VDO_IO` (the default), `VDO_NO_SPACE`, or only a delay in milliseconds of the clock. */
  fault?: "io" | "no-space" | { delayMs: number };
}

interface ActiveRule {
  rule: FaultRule;
  seen: number;
  fired: number;
}

export class FaultyDevice implements BlockDevice {
  readonly blockSize: number;
  readonly blockCount: number;
  readonly readOnly: boolean;
  readonly #base: BlockDevice;
  readonly #clock: Clock | undefined;
  #rules: ActiveRule[] = [];
  #faults = 0;
  #passing = 0;
  #onPassed: (() => void) | undefined;

  /** `clock` is needed for delays only. */
  constructor(base: BlockDevice, rules: readonly FaultRule[] = [], clock?: Clock) {
    this.#base = base;
    this.#clock = clock;
    this.blockSize = base.blockSize;
    this.blockCount = base.blockCount;
    this.readOnly = base.readOnly ?? false;
    for (const rule of rules) this.add(rule);
  }

  add(rule: FaultRule): void {
    this.#rules.push({ rule, seen: 0, fired: 0 });
  }

  /** Everything works again. */
  clear(): void {
    this.#rules = [];
  }

  /** Faults so far. */
  get faults(): number {
    return this.#faults;
  }

  /** Undefined when nothing is to happen: then the request goes on at once. */
  #pass(operation: FaultyOperation, start: number, count: number): Promise<void> | undefined {
    if (!this.#rules.some(({ rule }) => matches(rule, operation, start, count))) return undefined;
    this.#passing++;
    return this.#applyRules(operation, start, count).finally(() => {
      this.#passing--;
      if (this.#passing === 0) queueMicrotask(() => this.#onPassed?.());
    });
  }

  async #applyRules(operation: FaultyOperation, start: number, count: number): Promise<void> {
    for (const active of this.#rules) {
      if (!matches(active.rule, operation, start, count)) continue;
      active.seen++;
      if (active.seen <= (active.rule.after ?? 0) || active.fired >= (active.rule.times ?? Number.POSITIVE_INFINITY))
        continue;
      active.fired++;
      this.#faults++;
      await this.#fault(active.rule, operation, start);
    }
  }

  async #fault(rule: FaultRule, operation: FaultyOperation, block: number): Promise<void> {
    const fault = rule.fault ?? "io";
    if (typeof fault === "object") {
      const clock = this.#clock;
      if (clock === undefined) {
        throw new VdoError("VDO_BAD_ARGUMENT", "a delaying rule needs a clock: pass one to the faulty device", {
          argument: "clock",
          value: undefined,
        });
      }
      await new Promise<void>((resolve) => clock.after(fault.delayMs, resolve));
      return;
    }
    if (fault === "no-space") {
      throw new VdoError("VDO_NO_SPACE", `injected: no space at block ${block}`, { blocksFree: 0 });
    }
    throw new VdoError("VDO_IO", `injected: ${operation} of block ${block} failed`, { operation, block });
  }

  async read(start: number, target: Uint8Array): Promise<void> {
    const rules = this.#pass("read", start, target.length / this.blockSize);
    if (rules !== undefined) await rules;
    return this.#base.read(start, target);
  }

  async write(start: number, source: Uint8Array, options?: WriteOptions): Promise<void> {
    const rules = this.#pass("write", start, source.length / this.blockSize);
    if (rules !== undefined) await rules;
    return this.#base.write(start, source, options);
  }

  async writeVector(start: number, sources: readonly Uint8Array[], options?: WriteOptions): Promise<void> {
    let length = 0;
    for (const source of sources) length += source.length;
    const rules = this.#pass("write", start, length / this.blockSize);
    if (rules !== undefined) await rules;
    return writeVector(this.#base, start, sources, options);
  }

  async flush(): Promise<void> {
    const rules = this.#pass("flush", 0, 0);
    if (rules !== undefined) await rules;
    return this.#base.flush();
  }

  async discard(start: number, count: number, options?: WriteOptions): Promise<void> {
    const rules = this.#pass("discard", start, count);
    if (rules !== undefined) await rules;
    await this.#base.discard?.(start, count, options);
  }

  async writeZeroes(start: number, count: number, options?: ZeroOptions): Promise<void> {
    const rules = this.#pass("write", start, count);
    if (rules !== undefined) await rules;
    return zeroBlocks(this.#base, start, count, options);
  }

  async extents(start: number, count: number): Promise<Extent[]> {
    return this.#base.extents?.(start, count) ?? [{ count, hole: false, zero: false }];
  }

  async close(): Promise<void> {
    // Requests that a rule delays have not reached the other device yet.
    if (this.#passing > 0) {
      await new Promise<void>((resolve) => {
        this.#onPassed = resolve;
      });
    }
    return this.#base.close();
  }
}

function matches(rule: FaultRule, operation: FaultyOperation, start: number, count: number): boolean {
  if (rule.operation !== undefined && rule.operation !== operation) return false;
  if (rule.blocks === undefined || operation === "flush") return true;
  return start < rule.blocks.start + rule.blocks.count && rule.blocks.start < start + count;
}
