/**
 * Growing a running volume (Linux 6.12, grow logical and grow physical). Both are carried out while the volume is suspended,
 * and have one commit point, the write of the super block: before it the volume is as it was, after it, it is grown.
 */
import { VdoError } from "@vdo/base";
import { BLOCK_SIZE, MAXIMUM_LOGICAL_BLOCKS, MAXIMUM_PHYSICAL_BLOCKS, MAXIMUM_SLABS } from "../constants.ts";
import { findPartition, PARTITION, type Partition, type SuperBlock } from "../format/index.ts";
import { IO_META, type StorageIo } from "../io/storage-io.ts";
import type { OpenParts } from "./build-parts.ts";

/** Blocks copied by one request. */
const BLOCKS_PER_COPY = 256;

/** The layout after a physical growth. */
interface GrownLayout {
  recoveryJournal: Partition;
  slabSummary: Partition;
  slabDepot: Partition;
  lastBlock: number;
  slabs: number;
}

function refuseWhileNot(parts: OpenParts, operation: string): void {
  if (parts.isStatic || parts.notifier.isReadOnly) {
    throw new VdoError("VDO_READ_ONLY", `cannot ${operation} a volume that is read-only`, { object: "volume" });
  }
}

/** Checks a logical growth to `logicalBlocks`, before anything is suspended. */
export function checkGrowLogical(parts: OpenParts, logicalBlocks: number): void {
  refuseWhileNot(parts, "grow");
  const present = parts.keeper.value.vdo.config.logicalBlocks;
  if (Number.isSafeInteger(logicalBlocks) && logicalBlocks > present && logicalBlocks <= MAXIMUM_LOGICAL_BLOCKS) return;
  throw new VdoError(
    "VDO_PARAMETER_MISMATCH",
    `the volume has ${present} logical blocks; it can grow to at most ${MAXIMUM_LOGICAL_BLOCKS}, and not become ${logicalBlocks}`,
    { structure: "VolumeConfig", field: "logicalBlocks", expected: `more than ${present}`, actual: logicalBlocks },
  );
}

/** The growth itself, while suspended: only the super block says so; missing block map pages appear on demand. */
export async function growLogical(parts: OpenParts, logicalBlocks: number): Promise<void> {
  const { config } = parts.keeper.value.vdo;
  const before = config.logicalBlocks;
  config.logicalBlocks = logicalBlocks;
  try {
    await saveSuperBlock(parts);
  } catch (error) {
    config.logicalBlocks = before;
    throw error;
  }
  parts.dataPath.setLogicalBlocks(logicalBlocks);
}

/** While it is in use the super block names the head of the journal, from which a recovery would start. */
function saveSuperBlock({ keeper, journal, usage }: OpenParts): Promise<void> {
  return keeper.save(keeper.state, { ...usage(), journalStart: journal.head });
}

/** Checks a physical growth to `physicalBlocks`, and lays it out. Throws `VDO_INCREMENT_TOO_SMALL` or `VDO_TOO_MANY_SLABS`. */
export function planGrowPhysical(parts: OpenParts, physicalBlocks: number): GrownLayout {
  refuseWhileNot(parts, "grow");
  if (parts.depot.scrubber.left > 0) {
    throw new VdoError("VDO_INVALID_ADMIN_STATE", "the volume is recovering: grow it when that is done", {
      operation: "grow physical",
      state: "recovering",
    });
  }
  const { value } = parts.keeper;
  const present = value.vdo.config.physicalBlocks;
  const { slabBlocks } = value.slabDepot.slabConfig;
  const journal = findPartition(value.layout, PARTITION.recoveryJournal);
  const summary = findPartition(value.layout, PARTITION.slabSummary);
  const depot = findPartition(value.layout, PARTITION.slabDepot);
  const moved = journal.count + summary.count;
  const slabSummary = { ...summary, start: physicalBlocks - summary.count };
  const recoveryJournal = { ...journal, start: slabSummary.start - journal.count };
  const slabDepot = { ...depot, base: 0, count: recoveryJournal.start - depot.start };
  const slabs = Math.floor(slabDepot.count / slabBlocks);
  const minimumBlocks = Math.max(present + moved, depot.start + (parts.depot.slabs.length + 1) * slabBlocks + moved);
  if (!Number.isSafeInteger(physicalBlocks) || physicalBlocks < minimumBlocks) {
    throw new VdoError(
      "VDO_INCREMENT_TOO_SMALL",
      `${physicalBlocks} blocks of 4096 bytes are too few to grow to: the volume has ${present}, and one slab more needs ${minimumBlocks}`,
      { blocks: physicalBlocks, minimumBlocks },
    );
  }
  if (physicalBlocks > MAXIMUM_PHYSICAL_BLOCKS || slabs > MAXIMUM_SLABS) {
    throw new VdoError(
      "VDO_TOO_MANY_SLABS",
      `${slabs} slabs are more than ${MAXIMUM_SLABS}: the volume cannot be so large`,
      {
        slabCount: slabs,
        slabCountMax: MAXIMUM_SLABS,
      },
    );
  }
  const available = parts.io.pbnLimit;
  if (physicalBlocks > available) {
    throw new VdoError(
      "VDO_PARAMETER_MISMATCH",
      `the device has ${available} blocks of 4096 bytes, fewer than the ${physicalBlocks} to grow to: enlarge it first`,
      { structure: "VolumeConfig", field: "physicalBlocks", expected: `at most ${available}`, actual: physicalBlocks },
    );
  }
  return { recoveryJournal, slabSummary, slabDepot, lastBlock: depot.start + slabs * slabBlocks, slabs };
}

/** The growth itself, while suspended: journal and summary are copied to the new end, then the super block says so. */
export async function growPhysical(parts: OpenParts, physicalBlocks: number, plan: GrownLayout): Promise<void> {
  const { io, keeper, journal, depot } = parts;
  const { value } = keeper;
  await copyPartition(io, findPartition(value.layout, PARTITION.recoveryJournal), plan.recoveryJournal);
  await copyPartition(io, findPartition(value.layout, PARTITION.slabSummary), plan.slabSummary);
  const before = structuredClone(value);
  applyLayout(value, physicalBlocks, plan);
  try {
    await saveSuperBlock(parts);
  } catch (error) {
    Object.assign(value, before);
    throw error;
  }
  journal.moveTo(plan.recoveryJournal.start);
  depot.grow({ slabs: plan.slabs, lastBlock: plan.lastBlock, summaryOrigin: plan.slabSummary.start });
}

function applyLayout(value: SuperBlock, physicalBlocks: number, plan: GrownLayout): void {
  const blockMap = findPartition(value.layout, PARTITION.blockMap);
  value.vdo.config.physicalBlocks = physicalBlocks;
  value.slabDepot.lastBlock = plan.lastBlock;
  value.layout = {
    ...value.layout,
    firstFree: plan.recoveryJournal.start,
    lastFree: plan.recoveryJournal.start,
    // The order of a layout that was just made (Linux 6.12).
    partitions: [plan.slabDepot, plan.recoveryJournal, plan.slabSummary, blockMap],
  };
}

async function copyPartition(io: StorageIo, from: Partition, to: Partition): Promise<void> {
  const buffer = new Uint8Array(BLOCKS_PER_COPY * BLOCK_SIZE);
  for (let done = 0; done < from.count; done += BLOCKS_PER_COPY) {
    const bytes = buffer.subarray(0, Math.min(BLOCKS_PER_COPY, from.count - done) * BLOCK_SIZE);
    await io.readMeta(IO_META, from.start + done, bytes);
    await io.writeMeta(IO_META, to.start + done, bytes);
  }
}
