/**
 * A pool on one device: a label, and behind it extents for metadata and for data. What they hold is what the kernel's two
 * devices hold, so dm-linear shows a pool made here to the kernel.
 */
import { isVdoError, VdoError } from "@vdo/base";
import type { BlockDevice } from "@vdo/block-device";
import { METADATA_BLOCK_BYTES, METADATA_BLOCKS_MAX, SECTOR_BYTES } from "../constants.ts";
import {
  EXTENT_DATA,
  EXTENT_METADATA,
  EXTENTS_MAX,
  encodeLabel,
  FIRST_EXTENT_BYTES,
  isLabelIntact,
  LABEL_MAGIC,
  LABEL_PLACES,
  LABEL_VERSION,
  looksLikeLabel,
  type PoolExtent,
  type PoolLabel,
  poolLabel,
} from "../format/pool-label.ts";
import { checkBlockSectors } from "../pool/features.ts";
import { JoinedDevice } from "./joined-device.ts";

/** Sizes and places of extents are multiples of this. */
const ALIGNMENT = 65_536;
/** Metadata that the kernel's guidance asks for: 48 bytes for each data block, and at least 2 MiB. */
const METADATA_BYTES_PER_BLOCK = 48;
const METADATA_BYTES_MIN = 2 << 20;

export interface SplitOptions {
  /** Sectors per data block: 128 to 2097152, a multiple of 128. */
  blockSectors: number;
  /** Bytes for metadata; default: 48 for each data block, at least 2 MiB, at most 15.875 GiB. */
  metadataBytes?: number;
  /** 16 bytes, to tell pools from each other. */
  uuid?: Uint8Array;
}

/** Bytes of metadata for a pool of so many bytes. */
export function recommendedMetadataBytes(dataBytes: number, blockSectors: number): number {
  const blocks = Math.ceil(dataBytes / (blockSectors * SECTOR_BYTES));
  const wanted = Math.max(METADATA_BYTES_MIN, roundUp(blocks * METADATA_BYTES_PER_BLOCK));
  return Math.min(wanted, METADATA_BLOCKS_MAX * METADATA_BLOCK_BYTES);
}

export class SplitDevice {
  readonly #device: BlockDevice;
  #label: PoolLabel;
  /** Both are views: closing them leaves the device open. */
  readonly metadata: JoinedDevice;
  readonly data: JoinedDevice;

  private constructor(device: BlockDevice, label: PoolLabel) {
    this.#device = device;
    this.#label = label;
    this.metadata = new JoinedDevice(device, this.#ranges(EXTENT_METADATA));
    this.data = new JoinedDevice(device, this.#ranges(EXTENT_DATA));
  }

  /** True when the device carries a label, whole or damaged. */
  static async isLabelled(device: BlockDevice): Promise<boolean> {
    for (const place of LABEL_PLACES) {
      const block = await readLabelBlock(device, place);
      if (block !== undefined && looksLikeLabel(block)) return true;
    }
    return false;
  }

  /**
   * Divides a blank device. Throws `VDO_THIN_MISMATCH` for one that is not blank, `VDO_NO_SPACE` for one that is too small,
   * `VDO_THIN_SYNTAX` for a wrong size of data blocks.
   */
  static async create(device: BlockDevice, options: SplitOptions): Promise<SplitDevice> {
    const dataBlockSectors = checkBlockSectors(options.blockSectors);
    await requireBlank(device);
    const bytes = bytesOf(device);
    const space = bytes - FIRST_EXTENT_BYTES;
    const length = roundUp(options.metadataBytes ?? recommendedMetadataBytes(Math.max(0, space), dataBlockSectors));
    const blockBytes = dataBlockSectors * SECTOR_BYTES;
    const dataLength = Math.floor((space - length) / blockBytes) * blockBytes;
    if (dataLength < blockBytes) {
      const least = FIRST_EXTENT_BYTES + length + blockBytes;
      throw new VdoError("VDO_NO_SPACE", `a pool needs ${least} bytes, the device has ${bytes}: take a larger one`, {
        blocksFree: 0,
      });
    }
    const extents = [
      { kind: EXTENT_METADATA, reserved: 0, start: FIRST_EXTENT_BYTES, length },
      { kind: EXTENT_DATA, reserved: 0, start: FIRST_EXTENT_BYTES + length, length: dataLength },
    ];
    const label: PoolLabel = {
      magic: LABEL_MAGIC,
      version: LABEL_VERSION,
      extentCount: extents.length,
      sequence: 1,
      uuid: options.uuid ?? new Uint8Array(16),
      deviceBytes: bytes,
      dataBlockSectors,
      reserved: new Uint8Array(72),
      extents: padded(extents),
      checksum: 0,
    };
    await zeroFirstBlock(device, FIRST_EXTENT_BYTES);
    for (const place of LABEL_PLACES) await writeLabel(device, label, place);
    return new SplitDevice(device, label);
  }

  /** Reads the label. Throws `VDO_CORRUPT` when there is none, it is damaged, or it does not fit the device. */
  static async open(device: BlockDevice): Promise<SplitDevice> {
    let newest: PoolLabel | undefined;
    let failure: VdoError | undefined;
    for (const place of LABEL_PLACES) {
      try {
        const label = decodeLabel(await readLabelBlock(device, place), bytesOf(device));
        if (newest === undefined || label.sequence > newest.sequence) newest = label;
      } catch (error) {
        if (!isVdoError(error)) throw error;
        failure ??= error;
      }
    }
    if (newest === undefined) throw failure ?? corrupt("magic", LABEL_MAGIC, "nothing");
    return new SplitDevice(device, newest);
  }

  /** Sectors per data block. */
  get blockSectors(): number {
    return this.#label.dataBlockSectors;
  }

  get uuid(): Uint8Array {
    return this.#label.uuid;
  }

  /** What the device is divided into, metadata and data in their orders. */
  get extents(): { kind: "metadata" | "data"; start: number; length: number }[] {
    return this.#used().map(({ kind, start, length }) => ({
      kind: kind === EXTENT_METADATA ? "metadata" : "data",
      start,
      length,
    }));
  }

  #used(): PoolExtent[] {
    return this.#label.extents.slice(0, this.#label.extentCount);
  }

  #ranges(wanted: number): { start: number; blockCount: number }[] {
    const { blockSize } = this.#device;
    return this.#used()
      .filter(({ kind }) => kind === wanted)
      .map(({ start, length }) => ({ start: start / blockSize, blockCount: length / blockSize }));
  }

  /**
   * Hands out what the device has become larger by: to metadata what the larger pool should have, the rest to data. Resolves
   * false when there is nothing to hand out. The pool takes it with `resize`.
   */
  async grow(): Promise<boolean> {
    const bytes = bytesOf(this.#device);
    const extents = this.#used();
    const last = extents.at(-1) as PoolExtent;
    const blockBytes = this.blockSectors * SECTOR_BYTES;
    let from = last.start + last.length;
    let space = bytes - from;
    if (space < blockBytes) return false;
    const present = totalOf(extents, EXTENT_METADATA);
    const wanted = recommendedMetadataBytes(totalOf(extents, EXTENT_DATA) + space, this.blockSectors);
    // At least as much again, so that the table lasts for doublings; but never most of what came.
    const more = roundUp(Math.min(Math.max(wanted - present, present), space / 2));
    if (wanted > present && extents.length + 2 <= EXTENTS_MAX && space - more >= blockBytes) {
      extents.push({ kind: EXTENT_METADATA, reserved: 0, start: from, length: more });
      from += more;
      space -= more;
    }
    const length = Math.floor(space / blockBytes) * blockBytes;
    const end = extents.at(-1) as PoolExtent;
    if (end.kind === EXTENT_DATA) extents[extents.length - 1] = { ...end, length: end.length + length };
    else extents.push({ kind: EXTENT_DATA, reserved: 0, start: from, length });
    await this.#change({ extents: padded(extents), extentCount: extents.length, deviceBytes: bytes });
    this.metadata.setRanges(this.#ranges(EXTENT_METADATA));
    this.data.setRanges(this.#ranges(EXTENT_DATA));
    return true;
  }

  async #change(part: Partial<PoolLabel>): Promise<void> {
    const label = { ...this.#label, ...part, sequence: this.#label.sequence + 1 };
    await writeLabel(this.#device, label, LABEL_PLACES[label.sequence % 2] as number);
    this.#label = label;
  }

  /** Tables of dm-linear that show the kernel metadata and data of the pool on `device`, a path or `major:minor`. */
  linearTables(device: string): { metadata: string; data: string } {
    const tableOf = (wanted: number): string => {
      let at = 0;
      return this.#used()
        .filter(({ kind }) => kind === wanted)
        .map(({ start, length }) => {
          const line = `${at / SECTOR_BYTES} ${length / SECTOR_BYTES} linear ${device} ${start / SECTOR_BYTES}`;
          at += length;
          return line;
        })
        .join("\n");
    };
    return { metadata: tableOf(EXTENT_METADATA), data: tableOf(EXTENT_DATA) };
  }
}

function bytesOf(device: BlockDevice): number {
  return device.blockCount * device.blockSize;
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}

function totalOf(extents: readonly PoolExtent[], wanted: number): number {
  return extents.reduce((sum, { kind, length }) => (kind === wanted ? sum + length : sum), 0);
}

function padded(extents: readonly PoolExtent[]): PoolExtent[] {
  const none = { kind: 0, reserved: 0, start: 0, length: 0 };
  return Array.from({ length: EXTENTS_MAX }, (_, i) => extents[i] ?? none);
}

/** Undefined where the device ends before. */
async function readLabelBlock(device: BlockDevice, place: number): Promise<Uint8Array | undefined> {
  const block = new Uint8Array(Math.max(device.blockSize, METADATA_BLOCK_BYTES));
  if (place + block.length > bytesOf(device)) return undefined;
  await device.read(place / device.blockSize, block);
  return block;
}

async function writeLabel(device: BlockDevice, label: PoolLabel, place: number): Promise<void> {
  const block = encodeLabel(label, Math.max(device.blockSize, METADATA_BLOCK_BYTES));
  await device.flush();
  await device.write(place / device.blockSize, block);
  await device.flush();
}

/** A pool is formatted only where its first metadata block is zero. */
async function zeroFirstBlock(device: BlockDevice, place: number): Promise<void> {
  await device.write(place / device.blockSize, new Uint8Array(Math.max(device.blockSize, METADATA_BLOCK_BYTES)));
}

async function requireBlank(device: BlockDevice): Promise<void> {
  for (const place of LABEL_PLACES) {
    const block = await readLabelBlock(device, place);
    if (block === undefined || block.every((byte) => byte === 0)) continue;
    const message = `the device is not blank at byte ${place}: zero its first ${2 * (LABEL_PLACES[1] as number)} bytes if what is there may be lost`;
    throw new VdoError("VDO_THIN_MISMATCH", message, { field: "label", expected: "zeros", actual: "something else" });
  }
}

function corrupt(field: string, expected: unknown, actual: unknown): VdoError {
  const message = `pool label: ${field} is ${String(actual)}, expected ${String(expected)}: this is not a pool on one device, or its label is damaged`;
  return new VdoError("VDO_CORRUPT", message, { structure: "PoolLabel", field, expected, actual });
}

function decodeLabel(block: Uint8Array | undefined, deviceBytes: number): PoolLabel {
  if (block === undefined) throw corrupt("place", "within the device", "beyond its end");
  const label = poolLabel.decode(block);
  if (label.magic !== LABEL_MAGIC) throw corrupt("magic", LABEL_MAGIC, JSON.stringify(label.magic));
  if (!isLabelIntact(block)) throw corrupt("checksum", "that of its content", label.checksum);
  if (label.version !== LABEL_VERSION) throw corrupt("version", LABEL_VERSION, label.version);
  checkBlockSectors(label.dataBlockSectors);
  checkExtents(label, deviceBytes);
  return label;
}

function checkExtents({ extentCount, extents, dataBlockSectors }: PoolLabel, deviceBytes: number): void {
  if (extentCount < 2 || extentCount > EXTENTS_MAX) throw corrupt("extentCount", `2 to ${EXTENTS_MAX}`, extentCount);
  let free = FIRST_EXTENT_BYTES;
  const seen = new Set<number>();
  for (const [i, { kind, start, length }] of extents.slice(0, extentCount).entries()) {
    const unit = kind === EXTENT_DATA ? dataBlockSectors * SECTOR_BYTES : ALIGNMENT;
    if (kind !== EXTENT_METADATA && kind !== EXTENT_DATA) throw corrupt(`extents[${i}].kind`, "1 or 2", kind);
    if (start < free || start % ALIGNMENT !== 0) throw corrupt(`extents[${i}].start`, `from ${free} on`, start);
    if (length < unit || length % unit !== 0) throw corrupt(`extents[${i}].length`, `a multiple of ${unit}`, length);
    if (start + length > deviceBytes) throw corrupt("deviceBytes", `at least ${start + length}`, deviceBytes);
    free = start + length;
    seen.add(kind);
  }
  if (seen.size < 2) throw corrupt("extents", "metadata and data", "one kind");
}
