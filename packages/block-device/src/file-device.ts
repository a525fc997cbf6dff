/**
 * A block device on a regular file or a real block device.
 *
 * Reads and writes go through the thread pool of the runtime; several are in flight at once. `flush` is fdatasync, and a
 * `fua` write is a write followed by fdatasync. Errors of the system become `VDO_IO` with the block number (`VDO_NO_SPACE`
 * when the file system under a sparse file is full).
 */
import { fdatasync, read as readCallback, write as writeCallback, writev as writevCallback } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { VdoError } from "@vdo/base";
import { type BlockDevice, checkRange, type WriteOptions } from "./block-device.ts";

/** Linux takes at most this many buffers in one pwritev. */
const IOV_MAX = 1024;

export interface FileDeviceOptions {
  path: string;
  /** Bytes per block, default 4096. */
  blockSize?: number;
  readOnly?: boolean;
}

export class FileDevice implements BlockDevice {
  readonly blockSize: number;
  readonly blockCount: number;
  readonly readOnly: boolean;
  readonly path: string;
  readonly #handle: FileHandle;
  #inFlight = 0;
  #closing: (() => void) | undefined;
  #closed: Promise<void> | undefined;

  private constructor(handle: FileHandle, options: Required<FileDeviceOptions>, byteLength: number) {
    this.#handle = handle;
    this.path = options.path;
    this.blockSize = options.blockSize;
    this.readOnly = options.readOnly;
    this.blockCount = Math.floor(byteLength / options.blockSize);
  }

  /** Opens an existing file or block device; its size is taken now. Throws `VDO_IO` (operation `open`). */
  static async open({ path, blockSize = 4096, readOnly = false }: FileDeviceOptions): Promise<FileDevice> {
    try {
      const handle = await open(path, readOnly ? "r" : "r+");
      try {
        const byteLength = await sizeOf(handle);
        return new FileDevice(handle, { path, blockSize, readOnly }, byteLength);
      } catch (error) {
        await handle.close();
        throw error;
      }
    } catch (error) {
      throw new VdoError(
        "VDO_IO",
        `cannot open ${path}: ${(error as Error).message}`,
        { operation: "open", block: 0 },
        error,
      );
    }
  }

  #enter(start: number, byteLength: number, changes: boolean): void {
    if (this.#closed !== undefined) throw new VdoError("VDO_CLOSED", `${this.path} was closed`, { object: this.path });
    if (changes && this.readOnly) {
      throw new VdoError("VDO_READ_ONLY", `${this.path} was opened read-only`, { object: this.path });
    }
    checkRange(this, start, byteLength);
    this.#inFlight++;
  }

  #leave(): void {
    this.#inFlight--;
    if (this.#inFlight === 0) this.#closing?.();
  }

  read(start: number, target: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#enter(start, target.length, false);
      const position = start * this.blockSize;
      let done = 0;
      const step = (error: NodeJS.ErrnoException | null, count: number): void => {
        if (error !== null || count === 0) {
          this.#leave();
          reject(this.#failure("read", start + Math.floor(done / this.blockSize), error));
          return;
        }
        done += count;
        if (done < target.length) {
          readCallback(this.#handle.fd, target, done, target.length - done, position + done, step);
          return;
        }
        this.#leave();
        resolve();
      };
      if (target.length === 0) {
        this.#leave();
        resolve();
      } else readCallback(this.#handle.fd, target, 0, target.length, position, step);
    });
  }

  write(start: number, source: Uint8Array, options?: WriteOptions): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#enter(start, source.length, true);
      const position = start * this.blockSize;
      let done = 0;
      const step = (error: NodeJS.ErrnoException | null, count: number): void => {
        if (error !== null) {
          this.#leave();
          reject(this.#failure("write", start + Math.floor(done / this.blockSize), error));
          return;
        }
        done += count;
        if (done < source.length) {
          writeCallback(this.#handle.fd, source, done, source.length - done, position + done, step);
        } else this.#finishWrite(start, options, resolve, reject);
      };
      if (source.length === 0) this.#finishWrite(start, options, resolve, reject);
      else writeCallback(this.#handle.fd, source, 0, source.length, position, step);
    });
  }

  #finishWrite(
    start: number,
    options: WriteOptions | undefined,
    resolve: () => void,
    reject: (error: unknown) => void,
  ): void {
    if (options?.fua !== true) {
      this.#leave();
      resolve();
      return;
    }
    fdatasync(this.#handle.fd, (error) => {
      this.#leave();
      if (error === null) resolve();
      else reject(this.#failure("flush", start, error));
    });
  }

  async writeVector(start: number, sources: readonly Uint8Array[], options?: WriteOptions): Promise<void> {
    let block = start;
    for (let first = 0; first < sources.length; first += IOV_MAX) {
      const part = sources.slice(first, first + IOV_MAX);
      let length = 0;
      for (const source of part) length += source.length;
      const last = first + IOV_MAX >= sources.length;
      await this.#writePart(block, part, length, last ? options : undefined);
      block += length / this.blockSize;
    }
  }

  #writePart(start: number, sources: Uint8Array[], length: number, options: WriteOptions | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#enter(start, length, true);
      writevCallback(this.#handle.fd, sources, start * this.blockSize, (error, count) => {
        if (error !== null) {
          this.#leave();
          reject(this.#failure("write", start, error));
          return;
        }
        if (count === length) {
          this.#finishWrite(start, options, resolve, reject);
          return;
        }
        // A short write: send the rest as one buffer.
        const rest = Buffer.concat(sources).subarray(count - (count % this.blockSize));
        this.#leave();
        this.write(start + Math.floor(count / this.blockSize), rest, options).then(resolve, reject);
      });
    });
  }

  flush(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#enter(0, 0, false);
      if (this.readOnly) {
        this.#leave();
        resolve();
        return;
      }
      fdatasync(this.#handle.fd, (error) => {
        this.#leave();
        if (error === null) resolve();
        else reject(this.#failure("flush", 0, error));
      });
    });
  }

  #failure(operation: "read" | "write" | "flush", block: number, error: NodeJS.ErrnoException | null): VdoError {
    if (error?.code === "ENOSPC") {
      return new VdoError(
        "VDO_NO_SPACE",
        `${this.path}: the file system is full at block ${block}`,
        { blocksFree: 0 },
        error,
      );
    }
    const reason = error === null ? "the file ends early" : error.message;
    return new VdoError(
      "VDO_IO",
      `${this.path}: ${operation} of block ${block} failed: ${reason}`,
      { operation, block },
      error ?? undefined,
    );
  }

  close(): Promise<void> {
    this.#closed ??= new Promise((resolve, reject) => {
      const finish = (): void => {
        void this.#handle.close().then(resolve, reject);
      };
      if (this.#inFlight === 0) finish();
      else this.#closing = finish;
    });
    return this.#closed;
  }
}

/** Size in bytes of a regular file or a block device (whose `stat` size is 0: its end is found by reading). */
async function sizeOf(handle: FileHandle): Promise<number> {
  const stat = await handle.stat();
  if (!stat.isBlockDevice()) return stat.size;
  // The largest offset at which a byte can be read, by doubling and bisecting: works for every block device without ioctl.
  const probe = Buffer.alloc(1);
  const readable = async (offset: number): Promise<boolean> => {
    try {
      return (await handle.read(probe, 0, 1, offset)).bytesRead === 1;
    } catch {
      return false;
    }
  };
  if (!(await readable(0))) return 0;
  let low = 0;
  let high = 512;
  while (await readable(high)) {
    low = high;
    high *= 2;
  }
  while (high - low > 1) {
    const middle = low + Math.floor((high - low) / 2);
    if (await readable(middle)) low = middle;
    else high = middle;
  }
  return low + 1;
}
