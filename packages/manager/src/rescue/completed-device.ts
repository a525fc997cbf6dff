/**
 * Storage of which parts are gone, as a device that a volume can be read from. A first block that was wiped, as `vdo remove`
 * and partitioning tools do, is made again from the super block; an end that is missing, as of a copy that was cut short, is
 * filled up: the recovery journal and the slab summary are there, at the very end, and count as empty, and what is missing of
 * the data fails to be read. Nothing is written.
 */
import { isVdoError, VdoError } from "@vdo/base";
import { type BlockDevice, MemoryDevice } from "@vdo/block-device";
import { findGeometries, metadataRegions, StoppedVolume, writeGeometry } from "@vdo/kvdo";

const BLOCK = 4096;

/** Who is told of what was found; `loses` when content may be gone with it. */
export type TellDamage = (text: string, loses: boolean) => void;

/** The storage as far as it is there. Throws what says that there is no volume at all. */
export async function completedDevice(device: BlockDevice, tell: TellDamage): Promise<BlockDevice> {
  const whole = await withFirstBlock(device, tell);
  const volume = await StoppedVolume.open(whole, { validate: false });
  const { physicalBlocks } = volume.superBlock.vdo.config;
  const present = Math.floor((whole.blockCount * whole.blockSize) / BLOCK);
  if (present >= physicalBlocks) return whole;
  tell(`the storage has ${present} of the ${physicalBlocks} blocks of the volume: its end is missing`, false);
  const journals = metadataRegions(volume).filter(
    ({ label }) => label === "recovery journal" || label === "slab summary",
  );
  if (volume.state !== "CLEAN") {
    tell("the recovery journal is missing too: what it held alone is lost", true);
  }
  return new ExtendedDevice(whole, { blockCount: physicalBlocks, zeros: journals });
}

async function withFirstBlock(device: BlockDevice, tell: TellDamage): Promise<BlockDevice> {
  try {
    await StoppedVolume.open(device, { validate: false });
    return device;
  } catch (error) {
    if (!isVdoError(error, "VDO_BAD_MAGIC") && !isVdoError(error, "VDO_CHECKSUM")) throw error;
    const [candidate, ...others] = await findGeometries(device, new Uint8Array(16), { rootless: true });
    if (candidate === undefined || others.length > 0) throw error;
    const text = `the first block is not that of a volume; there is one that has its super block at block ${candidate.block}`;
    tell(text, false);
    const first = new MemoryDevice({ blockCount: 1 });
    await writeGeometry(first, candidate);
    const block = new Uint8Array(BLOCK);
    await first.read(0, block);
    return new PatchedDevice(device, block);
  }
}

/** Reads everything from another device, through `fill`. */
abstract class ReadingDevice implements BlockDevice {
  readonly base: BlockDevice;
  readonly blockSize: number;
  readonly blockCount: number;
  readonly readOnly = true;

  constructor(base: BlockDevice, blockCount: number) {
    this.base = base;
    this.blockSize = base.blockSize;
    this.blockCount = blockCount;
  }

  abstract read(start: number, target: Uint8Array): Promise<void>;

  async write(): Promise<void> {
    throw new TypeError("a volume that is rescued is only read");
  }

  async flush(): Promise<void> {}

  /** The storage stays its owner's to close. */
  async close(): Promise<void> {}
}

/** The first block of 4096 bytes is another one. */
class PatchedDevice extends ReadingDevice {
  readonly #first: Uint8Array;

  constructor(base: BlockDevice, first: Uint8Array) {
    super(base, base.blockCount);
    this.#first = first;
  }

  async read(start: number, target: Uint8Array): Promise<void> {
    await this.base.read(start, target);
    const offset = start * this.blockSize;
    if (offset < BLOCK) target.set(this.#first.subarray(offset, offset + target.length));
  }
}

interface Extension {
  /** Of 4096 bytes, in the whole device. */
  blockCount: number;
  /** Runs of blocks that read as zeros where they are missing. */
  zeros: readonly { start: number; count: number }[];
}

/** The device goes on beyond its end. */
class ExtendedDevice extends ReadingDevice {
  readonly #zeros: Extension["zeros"];

  constructor(base: BlockDevice, { blockCount, zeros }: Extension) {
    super(base, (blockCount * BLOCK) / base.blockSize);
    this.#zeros = zeros;
  }

  async read(start: number, target: Uint8Array): Promise<void> {
    const count = target.length / this.blockSize;
    const present = Math.max(0, Math.min(count, this.base.blockCount - start));
    if (present > 0) await this.base.read(start, target.subarray(0, present * this.blockSize));
    if (present === count) return;
    const from = Math.floor(((start + present) * this.blockSize) / BLOCK);
    const to = Math.ceil(((start + count) * this.blockSize) / BLOCK);
    const isEmpty = this.#zeros.some((run) => run.start <= from && to <= run.start + run.count);
    if (!isEmpty) {
      throw new VdoError("VDO_IO", `block ${from} is missing: the storage ends before it`, {
        operation: "read",
        block: from,
      });
    }
    target.fill(0, present * this.blockSize);
  }
}
