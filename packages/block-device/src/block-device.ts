/**
 * The one interface through which everything here reads and writes.
 *
 * A volume is itself a block device, so volumes, exports and files compose.
 */
import { VdoError } from "@vdo/base";

export interface WriteOptions {
  /** Force unit access: the write is durable when the promise resolves. */
  fua?: boolean;
}

export interface ZeroOptions extends WriteOptions {
  /** The blocks may become holes. They read as zeros either way. */
  mayUnmap?: boolean;
}

/** A run of blocks in the same state, as reported by {@link BlockDevice.extents}. */
export interface Extent {
  /** Number of blocks, at least 1. */
  count: number;
  /** No space is allocated for the run. */
  hole: boolean;
  /** The run reads as zeros. */
  zero: boolean;
}

/**
 * - A write is seen by every read that starts after it resolved.
 * - It is durable after a `flush` that was called after the write resolved, or if it was `fua`.
 * - Until then a crash keeps any of the versions written, sector by sector, in any order.
 * - Requests in flight together have no order; requests that overlap give either result.
 * - A buffer passed in belongs to the device until the promise resolves: hands off.
 *
 * All methods reject with `VDO_OUT_OF_RANGE` outside the device, `VDO_CLOSED` after `close`, `VDO_READ_ONLY` for a change
 * of a device that accepts none, `VDO_NO_SPACE` when a thin device is full, and `VDO_IO` when the storage failed.
 * Buffer lengths are multiples of `blockSize`. Optional methods are absent where the device cannot do better than writing.
 */
export interface BlockDevice {
  /** Bytes per block: 512 to 65536, a power of two. */
  readonly blockSize: number;
  readonly blockCount: number;
  /** True when the device accepts no changes. */
  readonly readOnly?: boolean;
  read(start: number, target: Uint8Array): Promise<void>;
  write(start: number, source: Uint8Array, options?: WriteOptions): Promise<void>;
  /** Writes several buffers, each a multiple of `blockSize` long, to consecutive blocks as one request. */
  writeVector?(start: number, sources: readonly Uint8Array[], options?: WriteOptions): Promise<void>;
  flush(): Promise<void>;
  /** Forgets the content of `count` blocks; they may read as anything a later write has not replaced, zeros where `extents` says so. */
  discard?(start: number, count: number, options?: WriteOptions): Promise<void>;
  /** Makes `count` blocks read as zeros. */
  writeZeroes?(start: number, count: number, options?: ZeroOptions): Promise<void>;
  /** States of the `count` blocks from `start`; may end early after at least one extent. */
  extents?(start: number, count: number): Promise<Extent[]>;
  /** Waits for requests in flight and releases the device. Further requests are refused. Idempotent. */
  close(): Promise<void>;
}

/** Throws unless `start` and `byteLength` name whole blocks inside `device`. */
export function checkRange(device: { blockSize: number; blockCount: number }, start: number, byteLength: number): void {
  const count = byteLength / device.blockSize;
  if (!Number.isInteger(count) || count < 0) {
    throw new VdoError(
      "VDO_BAD_ARGUMENT",
      `a buffer of ${byteLength} bytes is not a whole number of ${device.blockSize}-byte blocks`,
      { argument: "length", value: byteLength },
    );
  }
  if (!Number.isSafeInteger(start) || start < 0 || start + count > device.blockCount) {
    throw new VdoError(
      "VDO_OUT_OF_RANGE",
      `blocks ${start} to ${start + count - 1} lie outside the device of ${device.blockCount} blocks`,
      { start, count, blockCount: device.blockCount },
    );
  }
}

/** Writes `sources` to consecutive blocks from `start`: as one request where the device can, else one write each. */
export function writeVector(
  device: BlockDevice,
  start: number,
  sources: readonly Uint8Array[],
  options?: WriteOptions,
): Promise<void> {
  if (sources.length === 1) return device.write(start, sources[0] as Uint8Array, options);
  if (device.writeVector !== undefined) return device.writeVector(start, sources, options);
  const writes: Promise<void>[] = [];
  let block = start;
  for (const source of sources) {
    writes.push(device.write(block, source, options));
    block += source.length / device.blockSize;
  }
  return Promise.all(writes).then(() => undefined);
}
