/** Steps that take back what a multi-step command has done, run in reverse order when a later step fails. */
import { errorMessage } from "@vdo/base";
import type { CommandLog } from "../host/command-log.ts";

export class Undo {
  readonly #steps: { what: string; run: () => Promise<void> }[] = [];
  readonly #log: CommandLog;

  constructor(log: CommandLog) {
    this.#log = log;
  }

  push(what: string, run: () => Promise<void>): void {
    this.#steps.push({ what, run });
  }

  /** Runs every step; their own failures are warnings, since the error that led here is reported. */
  async run(): Promise<void> {
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      this.#log.step(`undo: ${step.what}`);
      try {
        await step.run();
      } catch (error) {
        this.#log.warning(`could not ${step.what}: ${errorMessage(error)}`);
      }
    }
  }
}
