/**
 * Warnings of a volume that fills up: at 80 % of the physical blocks and at each further 5 %, at most once per level until
 * the use has fallen 5 points below it. Texts as those of the original's monitoring service.
 */
import type { Clock } from "@vdo/base";
import type { VolumeStatus } from "../engine.ts";

const FIRST_PERCENT = 80;
const STEP_PERCENT = 5;
const INTERVAL_MILLISECONDS = 10_000;

export interface FullnessOptions {
  name: string;
  status: () => VolumeStatus;
  clock: Clock;
  log: (level: "warning", text: string) => void;
  /** Told with each warning. */
  onFull?: (percent: string) => void;
}

export class FullnessMonitor {
  readonly #name: string;
  readonly #status: () => VolumeStatus;
  readonly #clock: Clock;
  readonly #log: (level: "warning", text: string) => void;
  readonly #onFull: (percent: string) => void;
  #warned = 0;
  #cancel: (() => void) | undefined;

  constructor({ name, status, clock, log, onFull = () => undefined }: FullnessOptions) {
    this.#name = name;
    this.#status = status;
    this.#clock = clock;
    this.#log = log;
    this.#onFull = onFull;
  }

  /** What is to be said of the present use; undefined below the first level. */
  get warning(): string | undefined {
    const percent = this.#percent();
    return percent < FIRST_PERCENT ? undefined : this.#warning(percent);
  }

  /** Looks now and then every ten seconds, until {@link stop}. */
  start(): void {
    this.check();
    this.#cancel = this.#clock.after(INTERVAL_MILLISECONDS, () => this.start());
  }

  stop(): void {
    this.#cancel?.();
  }

  /** Compares the present use with the levels. */
  check(): void {
    const percent = this.#percent();
    const level = percent < FIRST_PERCENT ? 0 : Math.floor(percent / STEP_PERCENT) * STEP_PERCENT;
    if (level > this.#warned) {
      this.#log("warning", this.#warning(percent));
      this.#warned = level;
      this.#onFull(percent.toFixed(2));
    } else if (this.#warned > 0 && percent < this.#warned - STEP_PERCENT) this.#warned = level;
  }

  /** Percent of the physical blocks in use; 0 while it cannot be told. */
  #percent(): number {
    const { mode, usedBlocks, totalBlocks } = this.#status();
    return mode === "normal" ? (100 * usedBlocks) / totalBlocks : 0;
  }

  #warning(percent: number): string {
    return `VDO ${this.#name} is now ${percent.toFixed(2)}% full.`;
  }
}
