/** Whether the figures of a super block make sense together, and fit the geometry block and the device. */
import { VdoError } from "@vdo/base";
import { MAXIMUM_LOGICAL_BLOCKS, MAXIMUM_PHYSICAL_BLOCKS, MAXIMUM_SLAB_BLOCKS, MAXIMUM_SLABS } from "../constants.ts";
import type { Geometry } from "./geometry-block.ts";
import { checkLayout, findPartition, PARTITION } from "./layout-component.ts";
import { slabCount, slabDepotComponent } from "./slab-depot-component.ts";
import { isPowerOfTwo } from "./slab-geometry.ts";
import { type SuperBlock, superBlock } from "./super-block.ts";
import { type VolumeConfig, volumeConfig } from "./vdo-component.ts";

function require(
  holds: boolean,
  structure: string,
  facts: { field: string; expected: unknown; actual: unknown },
): void {
  if (holds) return;
  const { field, expected, actual } = facts;
  throw new VdoError("VDO_BAD_CONFIGURATION", `${structure}: ${field} is ${actual}, ${expected} is needed`, {
    structure,
    ...facts,
  });
}

function checkVolumeConfig(config: VolumeConfig): void {
  const name = volumeConfig.name;
  const { slabBlocks, slabJournalBlocks, physicalBlocks, logicalBlocks, recoveryJournalBlocks } = config;
  require(isPowerOfTwo(slabBlocks) && slabBlocks <= MAXIMUM_SLAB_BLOCKS, name, {
    field: "slabBlocks",
    expected: `a power of two up to ${MAXIMUM_SLAB_BLOCKS}`,
    actual: slabBlocks,
  });
  require(slabJournalBlocks >= 2 && slabJournalBlocks <= slabBlocks, name, {
    field: "slabJournalBlocks",
    expected: `2 to ${slabBlocks}`,
    actual: slabJournalBlocks,
  });
  require(physicalBlocks > 0 && physicalBlocks <= MAXIMUM_PHYSICAL_BLOCKS, name, {
    field: "physicalBlocks",
    expected: `1 to ${MAXIMUM_PHYSICAL_BLOCKS}`,
    actual: physicalBlocks,
  });
  require(logicalBlocks > 0 && logicalBlocks <= MAXIMUM_LOGICAL_BLOCKS, name, {
    field: "logicalBlocks",
    expected: `1 to ${MAXIMUM_LOGICAL_BLOCKS}`,
    actual: logicalBlocks,
  });
  require(isPowerOfTwo(recoveryJournalBlocks), name, {
    field: "recoveryJournalBlocks",
    expected: "a power of two",
    actual: recoveryJournalBlocks,
  });
}

function checkDepot(value: SuperBlock): void {
  const name = slabDepotComponent.name;
  const { slabConfig, firstBlock, lastBlock } = value.slabDepot;
  const { slabBlocks, dataBlocks, referenceCountBlocks, slabJournalBlocks } = slabConfig;
  const config = value.vdo.config;
  require(slabBlocks === config.slabBlocks, name, {
    field: "slabBlocks",
    expected: config.slabBlocks,
    actual: slabBlocks,
  });
  require(slabJournalBlocks === config.slabJournalBlocks, name, {
    field: "slabJournalBlocks",
    expected: config.slabJournalBlocks,
    actual: slabJournalBlocks,
  });
  const used = dataBlocks + referenceCountBlocks + slabJournalBlocks;
  require(dataBlocks >= 1 && used <= slabBlocks, name, {
    field: "dataBlocks",
    expected: `1 to ${slabBlocks - referenceCountBlocks - slabJournalBlocks}`,
    actual: dataBlocks,
  });
  const depot = findPartition(value.layout, PARTITION.slabDepot);
  require(firstBlock === depot.start, name, { field: "firstBlock", expected: depot.start, actual: firstBlock });
  require(lastBlock > firstBlock && lastBlock <= depot.start + depot.count, name, {
    field: "lastBlock",
    expected: `${firstBlock + slabBlocks} to ${depot.start + depot.count}`,
    actual: lastBlock,
  });
  const slabs = slabCount(value.slabDepot);
  require(slabs >= 1 && slabs <= MAXIMUM_SLABS, name, {
    field: "slab count",
    expected: `1 to ${MAXIMUM_SLABS}`,
    actual: slabs,
  });
}

/**
 * Checks a decoded super block against its geometry block and the device's blocks (bio offset subtracted by nobody: as
 * the volume counts them). Throws `VDO_BAD_NONCE`, `VDO_BAD_CONFIGURATION`, `VDO_UNKNOWN_PARTITION`, `VDO_BAD_LAYOUT`, or
 * `VDO_PARAMETER_MISMATCH` when the device is smaller than the volume.
 */
export function checkConfiguration(value: SuperBlock, geometry: Geometry, deviceBlocks: number): void {
  if (value.vdo.nonce !== geometry.nonce) {
    throw new VdoError(
      "VDO_BAD_NONCE",
      `SuperBlock: nonce ${value.vdo.nonce} is not ${geometry.nonce}, that of the geometry block`,
      { structure: superBlock.name, expected: geometry.nonce, actual: value.vdo.nonce },
    );
  }
  const config = value.vdo.config;
  checkVolumeConfig(config);
  checkLayout(value.layout, { dataStart: geometry.dataStart, physicalBlocks: config.physicalBlocks });
  checkDepot(value);
  const journal = findPartition(value.layout, PARTITION.recoveryJournal);
  require(journal.count === config.recoveryJournalBlocks, volumeConfig.name, {
    field: "recoveryJournalBlocks",
    expected: journal.count,
    actual: config.recoveryJournalBlocks,
  });
  const needed = config.physicalBlocks - geometry.bioOffset;
  if (deviceBlocks < needed) {
    throw new VdoError(
      "VDO_PARAMETER_MISMATCH",
      `the volume has ${needed} blocks of 4096 bytes, the device only ${deviceBlocks}: part of it is missing`,
      { structure: volumeConfig.name, field: "physicalBlocks", expected: deviceBlocks, actual: config.physicalBlocks },
    );
  }
}
