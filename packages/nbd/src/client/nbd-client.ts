/** An NBD export as a block device. */
import { type Clock, systemClock, VdoError } from "@vdo/base";
import { type BlockDevice, checkRange, type Extent, type WriteOptions, type ZeroOptions } from "@vdo/block-device";
import { COMMAND, COMMAND_FLAG, TRANSMISSION_FLAG } from "../protocol/constants.ts";
import { ClientConnection } from "./client-connection.ts";
import { type NbdAddress, parseNbdUri } from "./nbd-uri.ts";
import type { ByteExtent } from "./pending-request.ts";

export interface NbdClientOptions {
  /** Bytes per block, a power of two from 512 to 65536 and at least the server's minimum. Default 4096. */
  blockSize?: number;
  /** Refuse changes, even if the server would take them. */
  readOnly?: boolean;
  /** Milliseconds for connecting and the handshake. Default 10 000. */
  connectMs?: number;
  /** Requests in flight; further ones wait their turn. Default 64. */
  requestsMax?: number;
  clock?: Clock;
}

/** TRIM, WRITE_ZEROES and BLOCK_STATUS carry no data: they reach nearly to the 32 bits of their length. */
const RANGE_BYTES_MAX = 2 ** 32 - (1 << 20);

/**
 * A block device at the other end of an NBD connection. Requests are pipelined. When the connection is lost, requests in
 * flight and all later ones fail with `VDO_IO`: treat it as a failed disk, and connect anew to recover.
 *
 * @example
 * const device = await NbdClient.connect("nbd+unix:///?socket=/run/disk.sock");
 * await device.read(0, new Uint8Array(4096));
 */
export class NbdClient implements BlockDevice {
  readonly blockSize: number;
  readonly blockCount: number;
  readonly readOnly: boolean;
  readonly discard?: (start: number, count: number, options?: WriteOptions) => Promise<void>;
  readonly writeZeroes?: (start: number, count: number, options?: ZeroOptions) => Promise<void>;
  readonly extents?: (start: number, count: number) => Promise<Extent[]>;
  readonly #connection: ClientConnection;
  readonly #flags: number;
  /** Bytes of data in one request. */
  readonly #payloadMax: number;
  #unflushed = false;
  #closed: Promise<void> | undefined;

  private constructor(connection: ClientConnection, blockSize: number, readOnly: boolean) {
    const { agreement } = connection;
    this.#connection = connection;
    this.#flags = agreement.flags;
    this.blockSize = blockSize;
    this.blockCount = Math.floor(agreement.sizeBytes / blockSize);
    this.readOnly = readOnly || this.#offers(TRANSMISSION_FLAG.readOnly);
    this.#payloadMax = agreement.maximum - (agreement.maximum % blockSize);
    if (this.#offers(TRANSMISSION_FLAG.sendTrim) || this.readOnly) {
      this.discard = (start, count, options) => this.#ranges(COMMAND.trim, 0, { start, count, options });
    }
    if (this.#offers(TRANSMISSION_FLAG.sendWriteZeroes) || this.readOnly) {
      this.writeZeroes = (start, count, options) => {
        const noHole = options?.mayUnmap === true ? 0 : COMMAND_FLAG.noHole;
        return this.#ranges(COMMAND.writeZeroes, noHole, { start, count, options });
      };
    }
    if (agreement.allocationId !== undefined) this.extents = (start, count) => this.#extents(start, count);
  }

  /**
   * Connects to an export, named by URI or parts. Throws `VDO_BAD_ARGUMENT` for a URI or block size that cannot be,
   * `VDO_IO` (operation `open`) when nobody answers, `VDO_NBD_REFUSED` when the server will not, `VDO_NBD_PROTOCOL` when
   * it does not speak NBD.
   */
  static async connect(target: string | NbdAddress, options: NbdClientOptions = {}): Promise<NbdClient> {
    const { blockSize = 4096, readOnly = false, connectMs = 10_000, requestsMax = 64, clock = systemClock } = options;
    const address = typeof target === "string" ? parseNbdUri(target) : target;
    if (!(blockSize >= 512 && blockSize <= 65536 && Number.isInteger(Math.log2(blockSize))))
      throw badBlockSize(blockSize, 512);
    const connection = await ClientConnection.open({ address, clock, connectMs, requestsMax });
    const { minimum, maximum } = connection.agreement;
    if (minimum > blockSize || maximum < blockSize) {
      await connection.close();
      throw badBlockSize(blockSize, minimum);
    }
    return new NbdClient(connection, blockSize, readOnly);
  }

  /** True when the connection was lost: every request fails from then on. */
  get isLost(): boolean {
    return this.#connection.isLost;
  }

  /** False when the server offers no FLUSH: it promises that every answered write is durable. */
  get hasCache(): boolean {
    return this.#offers(TRANSMISSION_FLAG.sendFlush);
  }

  #offers(flag: number): boolean {
    return (this.#flags & flag) !== 0;
  }

  #check(start: number, byteLength: number, changes: boolean): void {
    if (this.#closed !== undefined)
      throw new VdoError("VDO_CLOSED", "the NBD client was closed", { object: "NBD client" });
    if (changes && this.readOnly) {
      throw new VdoError("VDO_READ_ONLY", "the NBD export is read-only", { object: "NBD export" });
    }
    checkRange(this, start, byteLength);
    if (changes) this.#unflushed = true;
  }

  async read(start: number, target: Uint8Array): Promise<void> {
    this.#check(start, target.length, false);
    const { blockSize } = this;
    const base = start * blockSize;
    if (target.length === 0) return;
    if (target.length <= this.#payloadMax) {
      const length = target.length;
      await this.#connection.request({ command: COMMAND.read, flags: 0, offset: base, length, target, blockSize });
      return;
    }
    const parts: Promise<unknown>[] = [];
    for (let at = 0; at < target.length; at += this.#payloadMax) {
      const part = target.subarray(at, Math.min(target.length, at + this.#payloadMax));
      const what = { command: COMMAND.read, flags: 0, offset: base + at, length: part.length, target: part, blockSize };
      parts.push(this.#connection.request(what));
    }
    await settle(parts);
  }

  async write(start: number, source: Uint8Array, options?: WriteOptions): Promise<void> {
    this.#check(start, source.length, true);
    const { blockSize } = this;
    const base = start * blockSize;
    const fua = options?.fua === true;
    const flags = fua && this.#offers(TRANSMISSION_FLAG.sendFua) ? COMMAND_FLAG.fua : 0;
    const parts: Promise<unknown>[] = [];
    for (let at = 0; at < source.length; at += this.#payloadMax) {
      const part = source.subarray(at, Math.min(source.length, at + this.#payloadMax));
      const what = { command: COMMAND.write, flags, offset: base + at, length: part.length, source: part, blockSize };
      parts.push(this.#connection.request(what));
    }
    if (parts.length === 1) await parts[0];
    else await settle(parts);
    if (fua && flags === 0) await this.#sendFlush();
  }

  async flush(): Promise<void> {
    this.#check(0, 0, false);
    await this.#sendFlush();
  }

  /** A server without FLUSH promises that answered writes are durable. */
  async #sendFlush(): Promise<void> {
    this.#unflushed = false;
    if (!this.#offers(TRANSMISSION_FLAG.sendFlush)) return;
    const { blockSize } = this;
    await this.#connection.request({ command: COMMAND.flush, flags: 0, offset: 0, length: 0, blockSize });
  }

  async #ranges(
    command: number,
    flags: number,
    { start, count, options }: { start: number; count: number; options: WriteOptions | undefined },
  ): Promise<void> {
    const { blockSize } = this;
    this.#check(start, count * blockSize, true);
    const fua = options?.fua === true;
    const sendFua = fua && this.#offers(TRANSMISSION_FLAG.sendFua) ? COMMAND_FLAG.fua : 0;
    const end = (start + count) * blockSize;
    for (let offset = start * blockSize; offset < end; offset += RANGE_BYTES_MAX) {
      const length = Math.min(RANGE_BYTES_MAX, end - offset);
      await this.#connection.request({ command, flags: flags | sendFua, offset, length, blockSize });
    }
    if (fua && sendFua === 0) await this.#sendFlush();
  }

  async #extents(start: number, count: number): Promise<Extent[]> {
    const { blockSize } = this;
    this.#check(start, count * blockSize, false);
    if (count === 0) return [];
    const length = Math.min(count * blockSize, RANGE_BYTES_MAX);
    const what = { command: COMMAND.blockStatus, flags: 0, offset: start * blockSize, length, blockSize };
    const { extents } = await this.#connection.request(what);
    return toBlocks(extents, blockSize, length / blockSize);
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    try {
      if (this.#unflushed) await this.#sendFlush();
    } finally {
      await this.#connection.close();
    }
  }
}

/** All parts end before the first failure is told: until then the buffers are in use. */
async function settle(parts: Promise<unknown>[]): Promise<void> {
  const outcomes = await Promise.allSettled(parts);
  for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
}

/** Extents in blocks, at most `most` of them. A block of several states has what they have in common. */
function toBlocks(extents: readonly ByteExtent[], blockSize: number, most: number): Extent[] {
  const blocks: Extent[] = [];
  let taken = 0;
  const add = (count: number, hole: boolean, zero: boolean): void => {
    const room = Math.min(count, most - taken);
    if (room <= 0) return;
    taken += room;
    const last = blocks.at(-1);
    if (last !== undefined && last.hole === hole && last.zero === zero) last.count += room;
    else blocks.push({ count: room, hole, zero });
  };
  let partial = 0;
  let hole = true;
  let zero = true;
  for (const extent of extents) {
    let { length } = extent;
    if (partial > 0) {
      const used = Math.min(length, blockSize - partial);
      hole &&= extent.hole;
      zero &&= extent.zero;
      partial = (partial + used) % blockSize;
      length -= used;
      if (partial > 0) continue;
      add(1, hole, zero);
    }
    add(Math.floor(length / blockSize), extent.hole, extent.zero);
    partial = length % blockSize;
    hole = extent.hole;
    zero = extent.zero;
  }
  // The server stopped inside a block: what the rest of it is, is not known.
  if (partial > 0) add(1, false, false);
  return blocks;
}

function badBlockSize(blockSize: number, minimum: number): VdoError {
  const text = `a block size of ${blockSize} does not do here: use a power of two from ${minimum} to 65536`;
  return new VdoError("VDO_BAD_ARGUMENT", text, { argument: "blockSize", value: blockSize });
}
