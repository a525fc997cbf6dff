/** Progress of streams on standard error: a line that is kept on a terminal, else a line for each tenth of a step. */
import type { StreamProgress } from "@vdo/thin";
import type { Streams } from "../parser.ts";
import { ProgressLine } from "../progress.ts";

export class StepProgress {
  readonly #streams: Streams;
  readonly #isQuiet: boolean;
  readonly #line: ProgressLine;
  #step = "";
  #tenth = -1;

  constructor(streams: Streams, isQuiet: boolean) {
    this.#streams = streams;
    this.#isQuiet = isQuiet;
    this.#line = new ProgressLine(streams);
  }

  show({ step, done, total }: StreamProgress): void {
    if (this.#isQuiet) return;
    if (this.#streams.isTerminal === true) {
      this.#line.show(step, done, total);
      return;
    }
    const tenth = total === 0 ? 10 : Math.min(10, Math.floor((10 * done) / total));
    if (step === this.#step && tenth === this.#tenth) return;
    this.#step = step;
    this.#tenth = tenth;
    this.#streams.err(`${step}: ${10 * tenth} % of ${total} bytes\n`);
  }

  /** Takes the line away. */
  end(): void {
    this.#line.end();
  }

  /** A line of the summary. */
  say(text: string): void {
    if (!this.#isQuiet) this.#streams.err(`${text}\n`);
  }
}
