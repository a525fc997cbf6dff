/** The super block of a volume that was just formatted. */
import { BLOCK_MAP_FLAT_PAGE_ORIGIN } from "../constants.ts";
import {
  BLOCK_MAP_HEADER,
  LAYOUT_HEADER,
  PARTITION,
  RECOVERY_JOURNAL_HEADER,
  SLAB_DEPOT_HEADER,
  SUPER_BLOCK_HEADER,
  type SuperBlock,
  VDO_COMPONENT_VERSION,
  VOLUME_STATE,
  VOLUME_VERSION,
  type VolumeLayout,
} from "../format/index.ts";

export interface NewVolume {
  layout: VolumeLayout;
  logicalBlocks: number;
  nonce: bigint;
}

/** State NEW, journal from sequence number 1, nothing used; partitions in the order 1, 2, 3, 0, as vdoformat has them. */
export function newSuperBlock({ layout, logicalBlocks, nonce }: NewVolume): SuperBlock {
  const { slabConfig, blockMap, slabDepot, recoveryJournal, slabSummary } = layout;
  const partition = (id: number, range: { start: number; count: number }) => ({ id, base: 0, ...range });
  return {
    header: SUPER_BLOCK_HEADER,
    releaseNumber: 0,
    volumeVersion: VOLUME_VERSION,
    vdo: {
      version: VDO_COMPONENT_VERSION,
      state: VOLUME_STATE.new,
      completeRecoveries: 0,
      readOnlyRecoveries: 0,
      config: {
        logicalBlocks,
        physicalBlocks: layout.physicalBlocks,
        slabBlocks: slabConfig.slabBlocks,
        recoveryJournalBlocks: recoveryJournal.count,
        slabJournalBlocks: slabConfig.slabJournalBlocks,
      },
      nonce,
    },
    layout: {
      header: LAYOUT_HEADER,
      firstFree: recoveryJournal.start,
      lastFree: recoveryJournal.start,
      partitionCount: 4,
      partitions: [
        partition(PARTITION.slabDepot, slabDepot),
        partition(PARTITION.recoveryJournal, recoveryJournal),
        partition(PARTITION.slabSummary, slabSummary),
        partition(PARTITION.blockMap, blockMap),
      ],
    },
    recoveryJournal: { header: RECOVERY_JOURNAL_HEADER, journalStart: 1, logicalBlocksUsed: 0, blockMapDataBlocks: 0 },
    slabDepot: {
      header: SLAB_DEPOT_HEADER,
      slabConfig,
      firstBlock: layout.firstBlock,
      lastBlock: layout.lastBlock,
      zoneCount: 0,
    },
    blockMap: {
      header: BLOCK_MAP_HEADER,
      flatPageOrigin: BLOCK_MAP_FLAT_PAGE_ORIGIN,
      flatPageCount: 0,
      rootOrigin: blockMap.start,
      rootCount: blockMap.count,
    },
    checksum: 0,
  };
}
