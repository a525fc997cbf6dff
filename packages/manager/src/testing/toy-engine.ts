/**
 * An engine whose volumes are the storage itself without its first block, which holds the settings as JSON behind the
 * magic of a VDO volume: enough to test everything around a volume, and nothing of a volume.
 */
import { VdoError } from "@vdo/base";
import { type BlockDevice, SliceDevice } from "@vdo/block-device";
import { emptyStatistics } from "@vdo/kvdo";
import type { Engine, FormatRequest, StoredVolume, VolumeHandle } from "../engine.ts";
import { uuidBytes } from "../values.ts";

const MAGIC = "dmvdo001";

/** Offset of the UUID in a geometry block. */
const UUID_OFFSET = 40;
const JSON_OFFSET = 64;

/** Fewest blocks of a toy volume. */
const BLOCKS_MIN = 16;

type Header = Omit<StoredVolume, "uuid">;

async function readHeader(device: BlockDevice): Promise<StoredVolume> {
  const block = new Uint8Array(4096);
  await device.read(0, block);
  if (Buffer.from(block.subarray(0, 8)).toString("latin1") !== MAGIC) {
    const data = { structure: "GeometryBlock", field: "magic", expected: MAGIC, actual: "" };
    throw new VdoError("VDO_CORRUPT", "this is not a VDO volume: block 0 does not start with dmvdo001", data);
  }
  const text = Buffer.from(block.subarray(JSON_OFFSET)).toString("utf8").replace(/\0+$/, "");
  return { ...(JSON.parse(text) as Header), uuid: block.slice(UUID_OFFSET, UUID_OFFSET + 16) };
}

async function writeHeader(device: BlockDevice, { uuid, ...header }: StoredVolume): Promise<void> {
  const block = new Uint8Array(4096);
  block.set(Buffer.from(MAGIC, "latin1"));
  block.set(uuid, UUID_OFFSET);
  block.set(Buffer.from(JSON.stringify(header)), JSON_OFFSET);
  await device.write(0, block, { fua: true });
}

function plan(blockCount: number, { logicalSize, slabBits }: FormatRequest) {
  if (blockCount < BLOCKS_MIN)
    throw new VdoError("VDO_NO_SPACE", "the device is too small", { blocksFree: blockCount });
  const logicalBlocks = logicalSize === 0 ? blockCount - 1 : logicalSize / 4096;
  return { physicalBlocks: blockCount, logicalBlocks, slabBlocks: 2 ** slabBits, slabCount: 1 };
}

export const toyEngine: Engine = {
  plan,
  async format(device, request) {
    const figures = plan(device.blockCount, request);
    await writeHeader(device, {
      ...figures,
      indexMemory: request.indexMemory,
      indexSparse: request.sparse,
      state: "NEW",
      uuid: request.uuid ?? uuidBytes(""),
    });
    return figures;
  },
  inspect: readHeader,
  async setUuid(device, uuid) {
    await writeHeader(device, { ...(await readHeader(device)), uuid });
  },
  memoryNeeded: ({ indexMemory }, { blockMapCacheBlocks }) => {
    const parts = [
      ["index", indexMemory * 1024 ** 3] as const,
      ["block map cache", blockMapCacheBlocks * 4096] as const,
    ];
    return { total: parts.reduce((sum, [, bytes]) => sum + bytes, 0), parts };
  },
  async open(device, options) {
    const stored = await readHeader(device);
    if (stored.state === "DIRTY") {
      const data = { structure: "SuperBlock", field: "state", expected: "CLEAN", actual: "DIRTY" };
      throw new VdoError("VDO_CORRUPT", "the volume was not stopped cleanly (state DIRTY)", data);
    }
    if (!options.readOnly) await writeHeader(device, { ...stored, state: "DIRTY" });
    return toyVolume(device, stored, options);
  },
};

function toyVolume(device: BlockDevice, stored: StoredVolume, options: Parameters<Engine["open"]>[1]): VolumeHandle {
  const slice = new SliceDevice(device, { start: 1, blockCount: device.blockCount - 1 });
  let compression = options.compression;
  let indexState = options.deduplication ? "online" : "closed";
  const statistics = () => ({
    ...emptyStatistics(),
    physicalBlocks: stored.physicalBlocks,
    logicalBlocks: stored.logicalBlocks,
    overheadBlocksUsed: 10,
  });
  return Object.assign(slice, {
    readOnly: options.readOnly,
    statistics,
    status: () => ({
      mode: "normal" as const,
      recovering: false,
      indexState,
      compression,
      usedBlocks: 10,
      totalBlocks: stored.physicalBlocks,
    }),
    config: () => stored,
    setCompression: async (on: boolean) => {
      compression = on;
    },
    setDeduplication: async (on: boolean) => {
      indexState = on ? "online" : "offline";
    },
    indexMessage: async (message: string) => {
      indexState = message === "close" ? "closed" : message === "disable" ? "offline" : "online";
    },
    suspend: async () => undefined,
    resume: async () => undefined,
    growLogical: async (logicalBlocks: number) => {
      stored.logicalBlocks = logicalBlocks;
      await writeHeader(device, { ...stored, state: "DIRTY" });
    },
    growPhysical: async (physicalBlocks: number) => {
      if (physicalBlocks < stored.physicalBlocks + BLOCKS_MIN) {
        const data = { blocks: physicalBlocks, minimumBlocks: stored.physicalBlocks + BLOCKS_MIN };
        throw new VdoError("VDO_INCREMENT_TOO_SMALL", `${physicalBlocks} blocks are too few`, data);
      }
      stored.physicalBlocks = physicalBlocks;
      await writeHeader(device, { ...stored, state: "DIRTY" });
    },
    close: async () => {
      if (!options.readOnly) await writeHeader(device, { ...stored, state: "CLEAN" });
    },
  });
}
