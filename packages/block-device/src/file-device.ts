/**
 * A block device on a regular file or a real block device.
 *
 * Reads and writes go through the thread pool of the runtime; several are in flight at once. With `inline`, short ones are made
 * at once as long as the storage answers like memory (`inline-transfers.ts` has the rules). `flush` is fdatasync; whoever asks
 * while one runs shares the next. A `fua` write that comes alone is one write with O_DSYNC, where the system opens a file a
 * second time that way (one trip through the thread pool less); one among others is a write and a share of an fdatasync. Errors
 * of the system become `VDO_IO` with the block number (`VDO_NO_SPACE` when the file system under a sparse file is full).
 *
 * After a failed fdatasync every later flush fails: Linux drops the pages it could not write, so a later success would lie.
 * Open the device anew to go on. A block device is opened for exclusive use when it is opened for writing.
 */
import { constants, fdatasync, read as readCallback, write as writeCallback, writev as writevCallback } from "node:fs";
import { type FileHandle, open, stat } from "node:fs/promises";
import { isVdoError, VdoError } from "@vdo/base";
import { type BlockDevice, checkRange, type WriteOptions } from "./block-device.ts";
import { sizeOf } from "./file-size.ts";
import { InlineTransfers } from "./inline-transfers.ts";
import { WriteLane } from "./write-lane.ts";

/** Linux takes at most this many buffers in one pwritev. */
const IOV_MAX = 1024;

export interface FileDeviceOptions {
  path: string;
  /** Bytes per block, default 4096. */
  blockSize?: number;
  readOnly?: boolean;
  /**
   * Make short reads and writes in the calling thread while they are quick, default false: much faster where the page cache
   * answers. Not for a file or device that this process itself serves, through FUSE or a loop device: it would wait for itself.
   */
  inline?: boolean;
  /** Gives a range of bytes back to the file system or the device; the device then offers `discard`. Node has no call for it. */
  punchHole?: (range: HoleRange) => Promise<void>;
}

/** A range to be given back. `descriptor` is the open file, `length` is at least 1. */
export interface HoleRange {
  descriptor: number;
  isBlockDevice: boolean;
  offset: number;
  length: number;
}

/** A write that was counted as in flight. */
interface EnteredWrite {
  start: number;
  /** For consecutive blocks; at most {@link IOV_MAX}. */
  sources: readonly Uint8Array[];
  /** Bytes. */
  length: number;
  options: WriteOptions | undefined;
  resolve: () => void;
  reject: (error: unknown) => void;
}

interface OpenOptions {
  path: string;
  blockSize: number;
  readOnly: boolean;
  inline: boolean;
  punchHole: FileDeviceOptions["punchHole"];
  isBlockDevice: boolean;
}

/** The file system has to find memory for longer writes, while a volume has better things to do than to wait for it. */
const INLINE_WRITE_BYTES_MAX = 16 << 10;

/** What a transfer resolves with that is over already. */
const DONE = Promise.resolve();

type SyncDone = (error: NodeJS.ErrnoException | null) => void;

export class FileDevice implements BlockDevice {
  readonly blockSize: number;
  #blockCount: number;
  readonly readOnly: boolean;
  readonly path: string;
  readonly discard?: (start: number, count: number, options?: WriteOptions) => Promise<void>;
  readonly #handle: FileHandle;
  readonly #inline: InlineTransfers | undefined;
  /** For regular files with inline transfers. */
  readonly #lane: WriteLane<EnteredWrite> | undefined;
  /** The same file, on which each write is durable when it ends; undefined where there is no such second opening. */
  readonly #durable: FileHandle | undefined;
  /** `fua` writes in flight. */
  #fuaInFlight = 0;
  #inFlight = 0;
  #syncing: SyncDone[] | undefined;
  #syncNext: SyncDone[] = [];
  #syncError: NodeJS.ErrnoException | null = null;
  #closing: (() => void) | undefined;
  #closed: Promise<void> | undefined;

  private constructor(handle: FileHandle, durable: FileHandle | undefined, options: OpenOptions, byteLength: number) {
    this.#handle = handle;
    this.#durable = durable;
    this.path = options.path;
    this.blockSize = options.blockSize;
    this.readOnly = options.readOnly;
    if (options.inline) this.#inline = new InlineTransfers({ writeBytesMax: INLINE_WRITE_BYTES_MAX });
    if (options.inline && !options.isBlockDevice) {
      this.#lane = new WriteLane({
        tryInline: (write) => this.#tryInline(write),
        start: (write) => this.#start(write),
        isSlow: () => this.#inline?.isPaused === true,
      });
    }
    this.#blockCount = Math.floor(byteLength / options.blockSize);
    const { punchHole, isBlockDevice } = options;
    if (punchHole === undefined || options.readOnly) return;
    this.discard = async (start, count, given) => {
      this.#enter(start, count * this.blockSize, true);
      try {
        const range = { offset: start * this.blockSize, length: count * this.blockSize };
        if (count > 0) await punchHole({ descriptor: handle.fd, isBlockDevice, ...range });
      } finally {
        this.#leave();
      }
      if (given?.fua === true) await this.flush();
    };
  }

  /** As of the opening, or of the last {@link refresh}. */
  get blockCount(): number {
    return this.#blockCount;
  }

  /** Takes the size again, which may have grown; returns the new number of blocks. Never fewer than before. */
  async refresh(): Promise<number> {
    if (this.#closed !== undefined) throw new VdoError("VDO_CLOSED", `${this.path} was closed`, { object: this.path });
    const blocks = Math.floor((await sizeOf(this.#handle)) / this.blockSize);
    this.#blockCount = Math.max(blocks, this.#blockCount);
    return this.#blockCount;
  }

  /**
   * Opens an existing file or block device; its size is taken now. Throws `VDO_IO` (operation `open`), and
   * `VDO_BAD_ARGUMENT` for a block size that is none, or something that is neither file nor block device.
   */
  static async open(options: FileDeviceOptions): Promise<FileDevice> {
    const { path, blockSize = 4096, readOnly = false, inline = false, punchHole } = options;
    if (!(blockSize >= 512 && blockSize <= 65536 && Number.isInteger(Math.log2(blockSize)))) {
      throw new VdoError("VDO_BAD_ARGUMENT", `a block size of ${blockSize} is not a power of two from 512 to 65536`, {
        argument: "blockSize",
        value: blockSize,
      });
    }
    try {
      const handle = await openForBlocks(path, readOnly);
      try {
        const byteLength = await sizeOf(handle);
        const isBlockDevice = (await handle.stat()).isBlockDevice();
        const durable = readOnly ? undefined : await openDurable(handle);
        const given = { path, blockSize, readOnly, inline, punchHole, isBlockDevice };
        return new FileDevice(handle, durable, given, byteLength);
      } catch (error) {
        await handle.close();
        throw error;
      }
    } catch (error) {
      if (isVdoError(error)) throw error;
      const busy = (error as NodeJS.ErrnoException).code === "EBUSY";
      const next = busy ? ": it is mounted or used by another program, which has to let it go first" : "";
      const text = `cannot open ${path}: ${(error as Error).message}${next}`;
      throw new VdoError("VDO_IO", text, { operation: "open", block: 0 }, error);
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

  /** A request that cannot be refused, to be made inline. */
  #isPlain(start: number, byteLength: number): boolean {
    const end = start + byteLength / this.blockSize;
    return Number.isSafeInteger(start) && start >= 0 && Number.isInteger(end) && end <= this.#blockCount;
  }

  read(start: number, target: Uint8Array): Promise<void> {
    if (this.#inline !== undefined && this.#closed === undefined && this.#isPlain(start, target.length)) {
      if (this.#inline.read(this.#handle.fd, target, start * this.blockSize)) return DONE;
    }
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

  /** An ordinary write that cannot be refused, when none of ours is in its way. */
  #isPlainWrite(start: number, byteLength: number, options: WriteOptions | undefined): boolean {
    if (this.readOnly || this.#closed !== undefined || options?.fua === true) return false;
    return this.#lane?.isBusy !== true && this.#isPlain(start, byteLength);
  }

  write(start: number, source: Uint8Array, options?: WriteOptions): Promise<void> {
    if (this.#inline !== undefined && this.#isPlainWrite(start, source.length, options)) {
      if (this.#inline.write(this.#handle.fd, source, start * this.blockSize)) return DONE;
    }
    return new Promise((resolve, reject) => {
      this.#enter(start, source.length, true);
      const write = { start, sources: [source], length: source.length, options, resolve, reject };
      const isAlone = options?.fua === true && this.#fuaInFlight++ === 0;
      if (isAlone && this.#durable !== undefined && this.#syncError === null) this.#writeDurable(this.#durable, write);
      else this.#submit(write);
    });
  }

  /** One write with O_DSYNC. One that ends early, as hardly ever, is made again and flushed in the ordinary way. */
  #writeDurable(durable: FileHandle, write: EnteredWrite): void {
    const { start, sources, length, options } = write;
    writevCallback(durable.fd, sources, start * this.blockSize, (error, count) => {
      if (error !== null) {
        // Like a failed fdatasync: what was written may be dropped.
        if (error.code !== "ENOSPC") this.#syncError ??= error;
        this.#leaveWrite(options);
        write.reject(this.#failure("write", start, error));
      } else if (count < length) this.#submit(write);
      else {
        this.#leaveWrite(options);
        write.resolve();
      }
    });
  }

  #submit(write: EnteredWrite): void {
    if (this.#lane === undefined) this.#start(write);
    else this.#lane.submit(write);
  }

  #tryInline({ start, sources, length, options, resolve }: EnteredWrite): boolean {
    if (options?.fua === true) return false;
    if (this.#inline?.writeVector(this.#handle.fd, sources, length, start * this.blockSize) !== true) return false;
    this.#leaveWrite(options);
    resolve();
    return true;
  }

  /** Writes in the thread pool. */
  #start(write: EnteredWrite): void {
    const over = (error: NodeJS.ErrnoException | null, done: number): void => {
      this.#lane?.ended();
      if (error === null) this.#finishWrite(write);
      else {
        this.#leaveWrite(write.options);
        write.reject(this.#failure("write", write.start + Math.floor(done / this.blockSize), error));
      }
    };
    if (write.length > 0) this.#transfer(write, 0, over);
    else queueMicrotask(() => over(null, 0));
  }

  /** Writes the bytes from `done` on, and goes on where the system ends early. */
  #transfer(
    write: EnteredWrite,
    done: number,
    over: (error: NodeJS.ErrnoException | null, done: number) => void,
  ): void {
    const { start, sources, length } = write;
    const ended = (error: NodeJS.ErrnoException | null, count: number): void => {
      if (error !== null || done + count === length) over(error, done);
      else this.#transfer(joined(write), done + count, over);
    };
    const position = start * this.blockSize + done;
    const [source] = sources as readonly [Uint8Array];
    if (sources.length > 1) writevCallback(this.#handle.fd, sources, position, ended);
    else writeCallback(this.#handle.fd, source, done, length - done, position, ended);
  }

  #leaveWrite(options: WriteOptions | undefined): void {
    if (options?.fua === true) this.#fuaInFlight--;
    this.#leave();
  }

  #finishWrite({ start, options, resolve, reject }: EnteredWrite): void {
    if (options?.fua !== true) {
      this.#leaveWrite(options);
      resolve();
      return;
    }
    this.#sync((error) => {
      this.#leaveWrite(options);
      if (error === null) resolve();
      else reject(this.#failure("flush", start, error));
    });
  }

  /** One fdatasync at a time; those who ask meanwhile share the next, which covers all that was written before it. */
  #sync(done: SyncDone): void {
    if (this.#syncing !== undefined) this.#syncNext.push(done);
    else this.#startSync([done]);
  }

  #startSync(waiting: SyncDone[]): void {
    this.#syncing = waiting;
    const ended = (error: NodeJS.ErrnoException | null): void => {
      this.#syncError ??= error;
      const next = this.#syncNext;
      this.#syncing = undefined;
      this.#syncNext = [];
      if (next.length > 0) this.#startSync(next);
      for (const done of waiting) done(this.#syncError);
    };
    if (this.#syncError === null) fdatasync(this.#handle.fd, ended);
    else queueMicrotask(() => ended(null));
  }

  writeVector(start: number, sources: readonly Uint8Array[], options?: WriteOptions): Promise<void> {
    const inline = this.#inline;
    if (inline !== undefined && sources.length <= IOV_MAX) {
      let length = 0;
      for (const source of sources) length += source.length;
      if (this.#isPlainWrite(start, length, options)) {
        if (inline.writeVector(this.#handle.fd, sources, length, start * this.blockSize)) return DONE;
      }
    }
    return this.#writeParts(start, sources, options);
  }

  async #writeParts(start: number, sources: readonly Uint8Array[], options?: WriteOptions): Promise<void> {
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
      if (options?.fua === true) this.#fuaInFlight++;
      this.#submit({ start, sources, length, options, resolve, reject });
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
      this.#sync((error) => {
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
        void Promise.all([this.#durable?.close(), this.#handle.close()]).then(() => resolve(), reject);
      };
      if (this.#inFlight === 0) finish();
      else this.#closing = finish;
    });
    return this.#closed;
  }
}

/** The same with one buffer. */
function joined(write: EnteredWrite): EnteredWrite {
  return write.sources.length === 1 ? write : { ...write, sources: [Buffer.concat(write.sources)] };
}

/** Opens what can hold blocks. On Linux, O_EXCL on a block device refuses one that is mounted or claimed, and claims it. */
async function openForBlocks(path: string, readOnly: boolean): Promise<FileHandle> {
  const found = await stat(path);
  if (!found.isFile() && !found.isBlockDevice()) {
    throw new VdoError("VDO_BAD_ARGUMENT", `${path} is neither a regular file nor a block device`, {
      argument: "path",
      value: path,
    });
  }
  if (readOnly) return open(path, constants.O_RDONLY);
  const exclusive = found.isBlockDevice() && process.platform === "linux" ? constants.O_EXCL : 0;
  return open(path, constants.O_RDWR | exclusive);
}

/** The file of `handle` opened again for durable writes; undefined where the system cannot. */
async function openDurable({ fd }: FileHandle): Promise<FileHandle | undefined> {
  if (process.platform !== "linux") return undefined;
  return open(`/proc/self/fd/${fd}`, constants.O_RDWR | constants.O_DSYNC).catch(() => undefined);
}
