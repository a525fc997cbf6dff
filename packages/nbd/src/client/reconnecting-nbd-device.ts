/**
 * An NBD export that outlives its connections. Invariants:
 *
 * 1. What was acknowledged and is not covered by a successful flush is held here, and is written again, latest content only,
 *    before anything else goes to a new connection: a server that forgot its cache is given it back.
 * 2. A request that was not answered is sent again after that. Reads, writes, zeroing, discards and flushes may all be carried
 *    out twice; writes that overlap while both are under way have no order, as with any block device.
 * 3. A flush resolves only when the server answered one that was sent after everything acknowledged before it, on a connection
 *    on which that was written.
 * 4. Memory is bounded: beyond a limit writers wait for a flush that this device sends itself.
 * 5. Nothing is written to an export that is smaller than the lost one, or whose {@link ReconnectingNbdDevice.recognise | mark}
 *    differs: it is another one.
 */
import { type Clock, firstDifference, isVdoError, systemClock, VdoError } from "@vdo/base";
import { type BlockDevice, type Extent, type WriteOptions, type ZeroOptions, zeroBlocks } from "@vdo/block-device";
import type {} from "../errors.ts";
import { NbdClient, type NbdClientOptions } from "./nbd-client.ts";
import type { NbdAddress } from "./nbd-uri.ts";
import { UnflushedBlocks } from "./unflushed-blocks.ts";

export interface ReconnectingOptions extends NbdClientOptions {
  /** Milliseconds to go on trying before every request fails. Default 60 000. */
  reconnectMs?: number;
  /** Bytes of unflushed writes that are held. Default 64 MiB. */
  unflushedBytesMax?: number;
  /** Told when the connection is lost, back, and given up. */
  onChange?: (change: { state: "lost" | "connected" | "failed"; error?: unknown }) => void;
}

const RECONNECT_MILLISECONDS = 60_000;
const UNFLUSHED_BYTES_MAX = 64 * 1024 * 1024;

/** Pauses between attempts: doubled from the first to the longest. */
const FIRST_PAUSE_MILLISECONDS = 50;
const LONGEST_PAUSE_MILLISECONDS = 3000;

/** Runs of unflushed blocks that are written again at a time. */
const RUNS_UNDER_WAY = 16;

/** Bytes of zeros that are held as a note; longer runs are made durable before they are acknowledged. */
const NOTED_ZEROS_MAX = 16 * 1024 * 1024;

export class ReconnectingNbdDevice implements BlockDevice {
  readonly blockSize: number;
  readonly readOnly: boolean;
  /** False when the server says that it keeps nothing in a volatile cache: every answered write is durable. */
  readonly hasCache: boolean;
  readonly discard?: (start: number, count: number, options?: WriteOptions) => Promise<void>;
  readonly extents?: (start: number, count: number) => Promise<Extent[]>;
  readonly #target: string | NbdAddress;
  readonly #options: ReconnectingOptions;
  readonly #clock: Clock;
  readonly #unflushed: UnflushedBlocks;
  #client: NbdClient;
  #blockCount: number;
  #mark: { block: number; content: Uint8Array } | undefined;
  #reconnecting: Promise<void> | undefined;
  #failed: unknown;
  #flushes: Promise<void> = Promise.resolve();
  #relief: Promise<void> | undefined;
  #closed: Promise<void> | undefined;
  /** The last flush, of the closing itself, is let through. */
  #isClosing = false;

  private constructor(client: NbdClient, target: string | NbdAddress, options: ReconnectingOptions) {
    this.#client = client;
    this.#target = target;
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.blockSize = client.blockSize;
    this.#blockCount = client.blockCount;
    this.readOnly = client.readOnly;
    this.hasCache = client.hasCache;
    this.#unflushed = new UnflushedBlocks(client.blockSize);
    if (client.discard !== undefined) {
      this.discard = (start, count, given) => this.#run(async (now) => now.discard?.(start, count, given));
    }
    if (client.extents !== undefined) {
      this.extents = (start, count) =>
        this.#run(async (now) => (await now.extents?.(start, count)) ?? [{ count, hole: false, zero: false }]);
    }
  }

  /** Connects for the first time; throws as `NbdClient.connect` does. */
  static async connect(target: string | NbdAddress, options: ReconnectingOptions = {}): Promise<ReconnectingNbdDevice> {
    return new ReconnectingNbdDevice(await NbdClient.connect(target, options), target, options);
  }

  /** As of the present connection. */
  get blockCount(): number {
    return this.#blockCount;
  }

  /**
   * Looks at the size with a connection of its own, since a server tells it when a client connects; connects anew when it has
   * grown. Resolves with the number of blocks now, never fewer than before; a server that takes no second client is not asked.
   */
  async refresh(): Promise<number> {
    const probe = await NbdClient.connect(this.#target, { ...this.#options, blockSize: this.blockSize }).catch(
      () => undefined,
    );
    const hasGrown = probe !== undefined && probe.blockCount > this.#blockCount;
    await probe?.close();
    if (!hasGrown) return this.#blockCount;
    if (!this.readOnly) await this.flush();
    this.#connectAnew(this.#client);
    await this.read(0, new Uint8Array(this.blockSize));
    return this.#blockCount;
  }

  /** From now on an export counts as the lost one only if this block holds what it holds now. Nobody may change it. */
  async recognise(block: number): Promise<void> {
    const content = new Uint8Array(this.blockSize);
    await this.read(block, content);
    this.#mark = { block, content };
  }

  read(start: number, target: Uint8Array): Promise<void> {
    return this.#run((client) => client.read(start, target));
  }

  async write(start: number, source: Uint8Array, options?: WriteOptions): Promise<void> {
    await this.#relieve();
    // The caller has its buffer back when this resolves, but the content is needed until the next flush.
    await this.#writeKept(start, source.slice(), options);
  }

  /** One request: a server that takes few at a time takes many blocks with each. */
  async writeVector(start: number, sources: readonly Uint8Array[], options?: WriteOptions): Promise<void> {
    await this.#relieve();
    await this.#writeKept(start, Buffer.concat(sources), options);
  }

  async #writeKept(start: number, kept: Uint8Array, options: WriteOptions | undefined): Promise<void> {
    await this.#noted(start, kept, () => this.#run((client) => client.write(start, kept, options)));
  }

  async writeZeroes(start: number, count: number, options?: ZeroOptions): Promise<void> {
    const zero = (): Promise<void> =>
      this.#run(async (client) => {
        await zeroBlocks(client, start, count, options);
        if (options?.fua === true) await client.flush();
      });
    if (count * this.blockSize <= NOTED_ZEROS_MAX) {
      await this.#relieve();
      await this.#noted(start, count, zero);
      return;
    }
    // Nothing older may be written again over these zeros, so nothing older may be held.
    await this.flush();
    await this.#run(async (client) => {
      await zeroBlocks(client, start, count, options);
      await client.flush();
    });
  }

  /**
   * Notes content before its request and again after it: before, so that no loss falls between answer and note; after, because
   * a flush in between did not cover it.
   */
  async #noted(start: number, content: Uint8Array | number, request: () => Promise<void>): Promise<void> {
    const isZeros = typeof content === "number";
    const count = isZeros ? content : content.length / this.blockSize;
    const isSound = Number.isInteger(count) && start >= 0 && start + count <= this.blockCount && !this.readOnly;
    const note = (): void => {
      if (isSound) this.#unflushed.note(start, count, isZeros ? null : content);
    };
    note();
    await request();
    note();
  }

  /** Resolves when everything acknowledged before is durable on the server. */
  flush(): Promise<void> {
    const flushed = this.#flushes.then(() => this.#flushOnce());
    this.#flushes = flushed.catch(() => undefined);
    return flushed;
  }

  #flushOnce(): Promise<void> {
    return this.#run(async (client) => {
      this.#unflushed.beginFlush();
      await client.flush();
      this.#unflushed.endFlush();
    });
  }

  async #relieve(): Promise<void> {
    const { unflushedBytesMax = UNFLUSHED_BYTES_MAX } = this.#options;
    if (this.#unflushed.bytes < unflushedBytesMax) return;
    this.#relief ??= this.flush().finally(() => {
      this.#relief = undefined;
    });
    await this.#relief;
  }

  /** Carries out `request` on the present connection, or on the next one that lives long enough. */
  async #run<T>(request: (client: NbdClient) => Promise<T>): Promise<T> {
    for (;;) {
      if (this.#closed !== undefined && !this.#isClosing) {
        throw new VdoError("VDO_CLOSED", "the NBD device was closed", { object: "NBD device" });
      }
      while (this.#reconnecting !== undefined) await this.#reconnecting;
      if (this.#failed !== undefined) throw this.#failure();
      const client = this.#client;
      try {
        return await request(client);
      } catch (error) {
        // A connection that was given up for another one is closed; its requests go to the next, too.
        const isReplaced =
          isVdoError(error, "VDO_CLOSED") && (this.#reconnecting !== undefined || client !== this.#client);
        if (!client.isLost && !isReplaced) throw error;
        if (client.isLost) this.#lose(client, error);
      }
    }
  }

  #failure(): VdoError {
    const text = `the NBD connection was lost and did not come back: ${String((this.#failed as Error).message)}`;
    return new VdoError("VDO_IO", text, { operation: "read", block: 0 }, this.#failed);
  }

  /** The first who sees the loss of a connection begins to make another. */
  #lose(client: NbdClient, error: unknown): void {
    if (client !== this.#client || this.#reconnecting !== undefined || this.#failed !== undefined) return;
    this.#options.onChange?.({ state: "lost", error });
    this.#connectAnew(client);
  }

  #connectAnew(client: NbdClient): void {
    if (client !== this.#client || this.#reconnecting !== undefined || this.#failed !== undefined) return;
    this.#reconnecting = this.#reconnect().then(
      () => {
        this.#reconnecting = undefined;
        this.#options.onChange?.({ state: "connected" });
      },
      (reason: unknown) => {
        this.#reconnecting = undefined;
        this.#failed = reason;
        this.#options.onChange?.({ state: "failed", error: reason });
      },
    );
  }

  async #reconnect(): Promise<void> {
    await this.#client.close().catch(() => undefined);
    const end = this.#clock.now() + (this.#options.reconnectMs ?? RECONNECT_MILLISECONDS);
    for (let pause = FIRST_PAUSE_MILLISECONDS; ; pause = Math.min(2 * pause, LONGEST_PAUSE_MILLISECONDS)) {
      let client: NbdClient | undefined;
      try {
        client = await NbdClient.connect(this.#target, { ...this.#options, blockSize: this.blockSize });
        await this.#checkSame(client);
        await this.#writeAgain(client);
        this.#client = client;
        this.#blockCount = client.blockCount;
        return;
      } catch (error) {
        const isOther = isVdoError(error, "VDO_NBD_PROTOCOL");
        const isRefusal = client !== undefined && !client.isLost;
        await client?.close().catch(() => undefined);
        if (isOther || isRefusal || this.#clock.now() + pause > end) throw error;
      }
      await new Promise<void>((resolve) => {
        this.#clock.after(pause, resolve);
      });
    }
  }

  /** The export must be the one that was lost; it may have grown. */
  async #checkSame(client: NbdClient): Promise<void> {
    const { blockCount, readOnly } = client;
    if (blockCount < this.#blockCount || readOnly !== this.readOnly) {
      const text = `it has ${blockCount} blocks${readOnly ? ", read-only" : ""}, not ${this.#blockCount}`;
      throw anotherExport(text, "size of the export", this.#blockCount, blockCount);
    }
    if (this.#mark === undefined) return;
    const { block, content } = this.#mark;
    const present = new Uint8Array(this.blockSize);
    await client.read(block, present);
    const at = firstDifference(present, content);
    if (at < 0) return;
    const text = `block ${block} differs at byte ${at} from what it held`;
    throw anotherExport(text, `block ${block}`, content[at] as number, present[at] as number);
  }

  /** The runs do not overlap, so several are under way at a time. */
  async #writeAgain(client: NbdClient): Promise<void> {
    const runs = this.#unflushed.runs().values();
    const worker = async (): Promise<void> => {
      for (const { start, count, bytes } of runs) {
        if (bytes === null) await zeroBlocks(client, start, count);
        else await client.write(start, bytes);
      }
    };
    await Promise.all(Array.from({ length: RUNS_UNDER_WAY }, worker));
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.#isClosing = true;
    try {
      if (this.#unflushed.bytes > 0 && this.#failed === undefined) await this.flush();
    } finally {
      this.#isClosing = false;
      await this.#client.close().catch(() => undefined);
    }
  }
}

function anotherExport(what: string, place: string, expected: number, actual: number): VdoError {
  return new VdoError("VDO_NBD_PROTOCOL", `another export answers: ${what}`, { place, expected, actual });
}
