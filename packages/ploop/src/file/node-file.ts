/** Images in files of the host. After a failed fdatasync every later flush fails: Linux forgets what it could not write. */
import { type BigIntStats, fdatasync, read as readCallback, readv, write as writeCallback, writev } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { errorMessage, isVdoError, VdoError } from "@vdo/base";
import { InlineTransfers } from "@vdo/block-device";
import { SECTOR } from "../format/header.ts";
import { Gather, type Transfer } from "./gather.ts";
import type { FileRange, ImageFile } from "./image-file.ts";

type Operation = "read" | "write" | "flush" | "open";

const ZERO_CHUNK = new Uint8Array(1 << 20);

/** Punches holes into the file at `path`: Node has no call for it. Rejects when the file system or the machine cannot. */
export type PunchHoles = (path: string, ranges: readonly FileRange[]) => Promise<void>;

export interface NodeFileOptions {
  /** The space of discarded clusters goes back to the file system. */
  punchHoles?: PunchHoles;
  /**
   * Make short reads and writes in the calling thread while they are quick, default false. Not for files that this process
   * itself serves, through FUSE or a loop device: it would wait for itself.
   */
  inline?: boolean;
}

export class NodeFile implements ImageFile {
  readonly name: string;
  readonly readOnly: boolean;
  readonly identity: string;
  readonly punch?: (ranges: readonly FileRange[]) => Promise<void>;
  readonly #handle: FileHandle;
  readonly #fd: number;
  readonly #inline: InlineTransfers | undefined;
  readonly #reads = new Gather((run, length) => this.#readRun(run, length));
  readonly #writes = new Gather((run, length) => this.#writeRun(run, length));
  #length: number;
  #syncing: Promise<void> | undefined;
  #syncNext: Promise<void> | undefined;
  #syncError: unknown;

  private constructor(
    name: string,
    handle: FileHandle,
    readOnly: boolean,
    found: BigIntStats,
    { punchHoles, inline = false }: NodeFileOptions,
  ) {
    if (inline) this.#inline = new InlineTransfers();
    this.identity = `${found.dev}:${found.ino}`;
    if (punchHoles !== undefined && !readOnly) this.punch = (ranges) => punchHoles(name, ranges);
    this.name = name;
    this.#handle = handle;
    this.#fd = handle.fd;
    this.readOnly = readOnly;
    this.#length = Number(found.size);
  }

  /** `flags`: `r`, `r+`, or `wx+` for a new file. Throws `VDO_IO` (operation `open`). */
  static async open(path: string, flags: "r" | "r+" | "wx+", options: NodeFileOptions = {}): Promise<NodeFile> {
    try {
      const handle = await open(path, flags, 0o600);
      try {
        const found = await handle.stat({ bigint: true });
        if (!found.isFile()) throw new Error("it is not a regular file");
        return new NodeFile(path, handle, flags === "r", found, options);
      } catch (error) {
        await handle.close();
        throw error;
      }
    } catch (error) {
      throw failure(path, "open", 0, error);
    }
  }

  get length(): number {
    return this.#length;
  }

  read(offset: number, target: Uint8Array): Promise<void> {
    if (target.length === 0) return Promise.resolve();
    return new Promise((resolve, reject) => this.#reads.add({ offset, bytes: target, resolve, reject }));
  }

  write(offset: number, source: Uint8Array): Promise<void> {
    this.#checkWritable();
    if (source.length === 0) return Promise.resolve();
    return new Promise((resolve, reject) => this.#writes.add({ offset, bytes: source, resolve, reject }));
  }

  /** A run that comes short, or fails, is taken apart: each transfer then has its own outcome. */
  #readRun(run: Transfer[], length: number): void {
    const [first] = run as [Transfer];
    const inline = this.#inline;
    if (run.length === 1) {
      if (inline?.read(this.#fd, first.bytes, first.offset) === true) first.resolve();
      else this.#readOne(first);
      return;
    }
    const buffers = run.map(({ bytes }) => bytes);
    if (inline?.readVector(this.#fd, buffers, length, first.offset) === true) {
      for (const { resolve } of run) resolve();
      return;
    }
    readv(this.#fd, buffers, first.offset, (error, count) => {
      if (error === null && count === length) for (const { resolve } of run) resolve();
      else for (const transfer of run) this.#readOne(transfer);
    });
  }

  #readOne({ offset, bytes, resolve, reject }: Transfer): void {
    let done = 0;
    const step = (error: Error | null, count: number): void => {
      if (error !== null || count === 0) {
        reject(failure(this.name, "read", offset + done, error ?? new Error("the file ends early")));
        return;
      }
      done += count;
      if (done === bytes.length) resolve();
      else readCallback(this.#fd, bytes, done, bytes.length - done, offset + done, step);
    };
    readCallback(this.#fd, bytes, 0, bytes.length, offset, step);
  }

  #writeRun(run: Transfer[], length: number): void {
    const [first] = run as [Transfer];
    const inline = this.#inline;
    if (run.length === 1) {
      if (inline?.write(this.#fd, first.bytes, first.offset) === true) this.#written(run, length);
      else this.#writeOne(first);
      return;
    }
    const buffers = run.map(({ bytes }) => bytes);
    if (inline?.writeVector(this.#fd, buffers, length, first.offset) === true) {
      this.#written(run, length);
      return;
    }
    writev(this.#fd, buffers, first.offset, (error, count) => {
      if (error === null && count === length) this.#written(run, length);
      else for (const transfer of run) this.#writeOne(transfer);
    });
  }

  #written(run: readonly Transfer[], length: number): void {
    this.#length = Math.max(this.#length, (run[0] as Transfer).offset + length);
    for (const { resolve } of run) resolve();
  }

  #writeOne({ offset, bytes, resolve, reject }: Transfer): void {
    let done = 0;
    const step = (error: Error | null, count: number): void => {
      if (error !== null) {
        reject(failure(this.name, "write", offset + done, error));
        return;
      }
      done += count;
      if (done < bytes.length) {
        writeCallback(this.#fd, bytes, done, bytes.length - done, offset + done, step);
        return;
      }
      this.#length = Math.max(this.#length, offset + bytes.length);
      resolve();
    };
    writeCallback(this.#fd, bytes, 0, bytes.length, offset, step);
  }

  async zero(offset: number, length: number): Promise<void> {
    this.#checkWritable();
    const end = Math.min(offset + length, this.#length);
    if (end === this.#length && offset < end) {
      // At the end of the file a hole is had by cutting it and extending it again.
      await this.setLength(offset);
      await this.setLength(end);
      return;
    }
    for (let at = offset; at < end; at += ZERO_CHUNK.length) {
      await this.write(at, ZERO_CHUNK.subarray(0, Math.min(ZERO_CHUNK.length, end - at)));
    }
  }

  async setLength(length: number): Promise<void> {
    this.#checkWritable();
    try {
      await this.#handle.truncate(length);
      this.#length = length;
    } catch (error) {
      throw failure(this.name, "write", length, error);
    }
  }

  /** One fdatasync at a time; who asks while one runs shares the next. */
  flush(): Promise<void> {
    if (this.readOnly) return Promise.resolve();
    if (this.#syncing === undefined) {
      this.#syncing = this.#sync();
      return this.#syncing;
    }
    this.#syncNext ??= this.#syncing
      .catch(() => undefined)
      .then(() => {
        this.#syncNext = undefined;
        this.#syncing = this.#sync();
        return this.#syncing;
      });
    return this.#syncNext;
  }

  async #sync(): Promise<void> {
    try {
      if (this.#syncError !== undefined) throw this.#syncError;
      await new Promise<void>((resolve, reject) => {
        fdatasync(this.#fd, (error) => (error === null ? resolve() : reject(error)));
      });
    } catch (error) {
      this.#syncError ??= error;
      throw failure(this.name, "flush", 0, error);
    } finally {
      this.#syncing = undefined;
    }
  }

  async refresh(): Promise<void> {
    this.#length = (await this.#handle.stat()).size;
  }

  close(): Promise<void> {
    return this.#handle.close();
  }

  #checkWritable(): void {
    if (this.readOnly) throw new VdoError("VDO_READ_ONLY", `${this.name} was opened read-only`, { object: this.name });
  }
}

/** `VDO_IO` with the sector, `VDO_NO_SPACE` for a full file system. */
export function failure(name: string, operation: Operation, offset: number, error: unknown): VdoError {
  if (isVdoError(error)) return error;
  if ((error as NodeJS.ErrnoException).code === "ENOSPC") {
    return new VdoError(
      "VDO_NO_SPACE",
      `${name}: the file system is full; make room and repeat`,
      { blocksFree: 0 },
      error,
    );
  }
  const block = Math.floor(offset / SECTOR);
  const place = operation === "read" || operation === "write" ? ` at sector ${block}` : "";
  return new VdoError(
    "VDO_IO",
    `${name}: ${operation}${place} failed: ${errorMessage(error)}`,
    { operation, block },
    error,
  );
}
