/**
 * Read-only mode: the volume stops changing anything, for good, after an error that makes its metadata doubtful
 * (Linux 6.12, read-only notifier). Reads go on. The first error is kept; the super block is saved with the state by the
 * listener that the volume registers first.
 */
import { VdoError } from "@vdo/base";

export class ReadOnlyNotifier {
  #error: unknown = null;
  readonly #listeners: ((error: unknown) => void)[] = [];

  /** True once read-only mode was entered. */
  get isReadOnly(): boolean {
    return this.#error !== null;
  }

  /** What put the volume into read-only mode; null before. */
  get error(): unknown {
    return this.#error;
  }

  /** Calls `listener` once when read-only mode is entered: at once if it was, as by damage found while loading. */
  onEnter(listener: (error: unknown) => void): void {
    if (this.isReadOnly) listener(this.#error);
    else this.#listeners.push(listener);
  }

  /** Enters read-only mode because of `error`. Only the first call counts. */
  enter(error: unknown): void {
    if (this.#error !== null) return;
    this.#error = error ?? new Error("unknown");
    for (const listener of this.#listeners) listener(this.#error);
  }

  /** The error that a refused change gets. */
  refusal(): VdoError<"VDO_READ_ONLY"> {
    const cause = this.#error instanceof Error ? `: ${this.#error.message}` : "";
    return new VdoError(
      "VDO_READ_ONLY",
      `the volume is in read-only mode${cause}; stop it, then check it and rebuild it (vdo forceRebuild)`,
      { object: "volume" },
      this.#error,
    );
  }
}
