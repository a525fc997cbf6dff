/** A volume is a block device, held to the contract of all block devices, in each of its ways of working. */
import { type BlockDevice, MemoryDevice } from "@vdo/block-device";
import { blockDeviceCompliance, SimulatedDisk } from "@vdo/block-device/testing";
import { describe, test } from "vitest";
import { VdoVolume, type VolumeOptions } from "../src/index.ts";
import { formatTiny, type TinyOptions, tinyBlocks } from "../src/testing/tiny-volume.ts";

const TINY: TinyOptions = {
  slabBits: 12,
  slabs: 3,
  recoveryJournalBlocks: 32,
  slabJournalBlocks: 8,
  logicalBlocks: 5000,
};

interface Row {
  name: string;
  options: VolumeOptions;
  operations: number;
  storage: () => BlockDevice;
}

const memory = (): BlockDevice => new MemoryDevice({ blockCount: tinyBlocks(TINY) });
const simulated = (): BlockDevice => new SimulatedDisk({ blockCount: tinyBlocks(TINY), seed: 3, batchMax: 32 });
const FEW = { blockMapCacheBlocks: 128, dataVios: 300, maximumAge: 4 };

const ROWS: Row[] = [
  { name: "4096 bytes", options: { ...FEW, deduplication: false }, operations: 300, storage: memory },
  {
    name: "4096 bytes, no compression, 3 requests at once, a disk that reorders",
    options: { ...FEW, dataVios: 3, compression: false, deduplication: false },
    operations: 100,
    storage: simulated,
  },
  {
    name: "512 bytes",
    options: { ...FEW, logicalBlockSize: 512, deduplication: false },
    operations: 300,
    storage: memory,
  },
  {
    name: "512 bytes, no compression, a disk that reorders",
    options: { ...FEW, logicalBlockSize: 512, compression: false, deduplication: false },
    operations: 100,
    storage: simulated,
  },
  { name: "4096 bytes, deduplication", options: FEW, operations: 300, storage: memory },
];

for (const { name, options, operations, storage } of ROWS) {
  /** What each volume stands on, to open it again. */
  const bases = new WeakMap<BlockDevice, BlockDevice>();
  const open = async (base: BlockDevice, more: VolumeOptions = {}): Promise<VdoVolume> => {
    const volume = await VdoVolume.open(base, { ...options, ...more });
    if (options.deduplication !== false) await volume.indexSettled();
    bases.set(volume, base);
    return volume;
  };
  const fresh = async (): Promise<BlockDevice> => {
    const base = storage();
    await formatTiny(base, TINY);
    return base;
  };
  const blockSize = options.logicalBlockSize ?? 4096;
  blockDeviceCompliance(
    `a volume (${name})`,
    async () => open(await fresh()),
    { describe, test },
    {
      blockSize,
      blockCount: (TINY.logicalBlocks * 4096) / blockSize,
      discard: true,
      operations,
      reopen: async (device) => {
        await device.close();
        return open(bases.get(device) as BlockDevice);
      },
      openReadOnly: async () => open(await fresh(), { readOnly: true }),
    },
  );
}
