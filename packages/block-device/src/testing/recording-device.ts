/** A device that writes down what is asked of another one, in order. */
import type { BlockDevice, Extent, WriteOptions, ZeroOptions } from "../block-device.ts";
import { writeVector } from "../block-device.ts";
import { zeroBlocks } from "../slice-device.ts";

/** One operation. `count` is in blocks; flushes have none. */
export interface RecordedOperation {
  kind: "read" | "write" | "flush" | "discard" | "zero" | "extents" | "close";
  start: number;
  count: number;
  fua: boolean;
  /** Set when the operation ended. */
  outcome: "pending" | "done" | "failed";
  /** A copy of what was written, when the recorder keeps data. */
  data?: Uint8Array;
}

export class RecordingDevice implements BlockDevice {
  readonly blockSize: number;
  readonly blockCount: number;
  readonly readOnly: boolean;
  /** Everything asked so far, oldest first. May be emptied by the test. */
  readonly log: RecordedOperation[] = [];
  readonly #base: BlockDevice;
  readonly #keepData: boolean;

  constructor(base: BlockDevice, { keepData = false }: { keepData?: boolean } = {}) {
    this.#base = base;
    this.#keepData = keepData;
    this.blockSize = base.blockSize;
    this.blockCount = base.blockCount;
    this.readOnly = base.readOnly ?? false;
  }

  /** The operations of one kind. */
  of(kind: RecordedOperation["kind"]): RecordedOperation[] {
    return this.log.filter((operation) => operation.kind === kind);
  }

  #record<T>(
    operation: Omit<RecordedOperation, "outcome" | "fua">,
    options: WriteOptions | undefined,
    outcome: Promise<T>,
  ): Promise<T> {
    const entry: RecordedOperation = { ...operation, fua: options?.fua ?? false, outcome: "pending" };
    this.log.push(entry);
    return outcome.then(
      (value) => {
        entry.outcome = "done";
        return value;
      },
      (error: unknown) => {
        entry.outcome = "failed";
        throw error;
      },
    );
  }

  read(start: number, target: Uint8Array): Promise<void> {
    const count = target.length / this.blockSize;
    return this.#record({ kind: "read", start, count }, undefined, this.#base.read(start, target));
  }

  write(start: number, source: Uint8Array, options?: WriteOptions): Promise<void> {
    const count = source.length / this.blockSize;
    const data = this.#keepData ? { data: source.slice() } : {};
    return this.#record({ kind: "write", start, count, ...data }, options, this.#base.write(start, source, options));
  }

  writeVector(start: number, sources: readonly Uint8Array[], options?: WriteOptions): Promise<void> {
    const bytes = Buffer.concat(sources);
    const count = bytes.length / this.blockSize;
    const data = this.#keepData ? { data: new Uint8Array(bytes) } : {};
    const outcome = writeVector(this.#base, start, sources, options);
    return this.#record({ kind: "write", start, count, ...data }, options, outcome);
  }

  flush(): Promise<void> {
    return this.#record({ kind: "flush", start: 0, count: 0 }, undefined, this.#base.flush());
  }

  discard(start: number, count: number, options?: WriteOptions): Promise<void> {
    const outcome = this.#base.discard?.(start, count, options) ?? Promise.resolve();
    return this.#record({ kind: "discard", start, count }, options, outcome);
  }

  writeZeroes(start: number, count: number, options?: ZeroOptions): Promise<void> {
    return this.#record({ kind: "zero", start, count }, options, zeroBlocks(this.#base, start, count, options));
  }

  extents(start: number, count: number): Promise<Extent[]> {
    const outcome = this.#base.extents?.(start, count) ?? Promise.resolve([{ count, hole: false, zero: false }]);
    return this.#record({ kind: "extents", start, count }, undefined, outcome);
  }

  close(): Promise<void> {
    return this.#record({ kind: "close", start: 0, count: 0 }, undefined, this.#base.close());
  }
}
