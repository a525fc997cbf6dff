/** One line on a terminal that tells how far a long command is. */
import type { Streams } from "./parser.ts";

/** Least time between two updates. */
const INTERVAL_MILLISECONDS = 200;
const BAR_WIDTH = 30;

export class ProgressLine {
  readonly #streams: Streams;
  #last = 0;
  #begin = 0;
  #what = "";
  #isShown = false;

  constructor(streams: Streams) {
    this.#streams = streams;
  }

  /** Shows that so much of `total` bytes is done; nothing when there is no terminal. */
  show(what: string, done: number, total: number): void {
    if (this.#streams.isTerminal !== true) return;
    const now = performance.now();
    if (what !== this.#what) {
      this.#what = what;
      this.#begin = now;
    } else if (now - this.#last < INTERVAL_MILLISECONDS && done < total) return;
    this.#last = now;
    this.#isShown = true;
    this.#streams.err(`\r${progressText({ what, done, total, seconds: (now - this.#begin) / 1000 })}\x1b[K`);
  }

  /** Takes the line away. */
  end(): void {
    if (this.#isShown) this.#streams.err("\r\x1b[K");
    this.#isShown = false;
  }
}

/** `copied [#####-----]  50 % of 2.0 GiB, 120 MiB/s`. */
export function progressText(state: { what: string; done: number; total: number; seconds: number }): string {
  const { what, done, total, seconds } = state;
  const share = total === 0 ? 1 : Math.min(1, done / total);
  const filled = Math.round(share * BAR_WIDTH);
  const bar = "#".repeat(filled) + "-".repeat(BAR_WIDTH - filled);
  const speed = seconds > 0 ? `, ${Math.round(done / seconds / 1024 ** 2)} MiB/s` : "";
  return `${what} [${bar}] ${String(Math.floor(share * 100)).padStart(3)} % of ${(total / 1024 ** 3).toFixed(1)} GiB${speed}`;
}
