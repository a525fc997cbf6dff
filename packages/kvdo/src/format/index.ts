/** Every structure of the on-disk format, and the arithmetic of where it lies. Nothing here does I/O. */
export { JOURNAL_SECTOR_HEADER_SIZE, SLAB_JOURNAL_BITMAP_SIZE, SUMMARY_ENTRY_SIZE } from "../constants.ts";
export {
  ADVICE_SIZE,
  readAdvicePbn,
  readAdviceState,
  writeAdvice,
} from "./advice.ts";
export { leafOfBlock, leavesOfTree, pageIndex, slotInLeaf, slotInPage, treeOfLeaf } from "./block-map-address.ts";
export { BLOCK_MAP_HEADER, type BlockMapComponent, blockMapComponent } from "./block-map-component.ts";
export {
  type BlockMapPageHeader,
  blockMapPageHeader,
  formatBlockMapPage,
  isPageInitialised,
  judgeBlockMapPage,
  mappingAt,
  type PageVerdict,
  setPageInitialised,
} from "./block-map-page.ts";
export { volumeChecksum } from "./checksum.ts";
export {
  type ComponentHeader,
  checkHeader,
  checkVersion,
  componentHeader,
  type PackedVersion,
  packedVersion,
} from "./component-header.ts";
export {
  type CompressedBlockHeader,
  compressedBlockHeader,
  fragmentOffset,
  fragmentSize,
  isCompressedBlock,
  setFragmentSize,
  startCompressedBlock,
} from "./compressed-block.ts";
export { checkConfiguration } from "./configuration-check.ts";
export {
  decodeGeometryBlock,
  encodeGeometryBlock,
  GEOMETRY_MAGIC,
  type Geometry,
  geometryBlock,
  geometryBlock4,
} from "./geometry-block.ts";
export {
  type IndexConfig,
  type IndexGeometry,
  indexConfig,
  indexGeometry,
  indexMemoryFromGib,
} from "./index-config.ts";
export { indexBlockCount } from "./index-size.ts";
export { expandedEntry, isBefore, type JournalPoint, journalPoint, u48le } from "./journal-point.ts";
export {
  checkLayout,
  findPartition,
  LAYOUT_HEADER,
  type LayoutComponent,
  layoutComponent,
  PARTITION,
  type Partition,
  type PartitionId,
  partitionRecord,
} from "./layout-component.ts";
export {
  isCompressedState,
  isValidMapping,
  MAPPING_STATE_COMPRESSED_BASE,
  MAPPING_STATE_MAX,
  MAPPING_STATE_UNCOMPRESSED,
  MAPPING_STATE_UNMAPPED,
  readMappingPbn,
  readMappingState,
  slotOfState,
  stateOfSlot,
  writeMapping,
  ZERO_BLOCK,
} from "./mapping.ts";
export {
  OLD_JOURNAL_ENTRIES_PER_BLOCK,
  OLD_JOURNAL_ENTRIES_PER_SECTOR,
  OLD_JOURNAL_ENTRY_SIZE,
  OLD_JOURNAL_MAPPING_AT,
  OLD_JOURNAL_OPERATION,
  oldJournalEntryAt,
  oldJournalSectorCapacity,
} from "./old-journal-entry.ts";
export {
  isJournalBlockValid,
  type JournalExpectation,
  type JournalSectorHeader,
  journalCheckByte,
  journalPosition,
  journalSectorAt,
  journalSectorHeader,
  METADATA_TYPE,
  type RecoveryJournalHeader,
  recoveryJournalHeader,
} from "./recovery-journal-block.ts";
export {
  RECOVERY_JOURNAL_HEADER,
  type RecoveryJournalComponent,
  recoveryJournalComponent,
} from "./recovery-journal-component.ts";
export {
  JOURNAL_NEW_MAPPING_AT,
  JOURNAL_OLD_MAPPING_AT,
  JOURNAL_OPERATION_BLOCK_MAP,
  JOURNAL_OPERATION_DATA,
  journalEntryAt,
  readJournalEntryOperation,
  readJournalEntrySlot,
  readJournalEntrySlotPbn,
  writeJournalEntry,
} from "./recovery-journal-entry.ts";
export {
  type CommitPoints,
  REFERENCE_COUNTS_AT,
  type ReferenceSector,
  readCommitPoint,
  referenceBlockOf,
  referenceSector,
  writeCommitPoint,
} from "./reference-block.ts";
export {
  SLAB_DEPOT_HEADER,
  type SlabConfig,
  type SlabDepotComponent,
  slabConfig,
  slabCount,
  slabDepotComponent,
} from "./slab-depot-component.ts";
export {
  computeSlabConfig,
  fullnessHint,
  fullnessHintShift,
  isPowerOfTwo,
  usedReferenceBlocks,
} from "./slab-geometry.ts";
export {
  readRecoveryPointEntry,
  readRecoveryPointSequence,
  type SlabJournalHeader,
  slabJournalHeader,
  writeRecoveryPoint,
} from "./slab-journal-block.ts";
export {
  clearSlabJournalBlockMapEntries,
  isSlabJournalBlockMapEntry,
  isSlabJournalIncrement,
  markSlabJournalBlockMapEntry,
  readSlabJournalOffset,
  SLAB_JOURNAL_BITMAP_OFFSET,
  slabJournalEntryAt,
  writeSlabJournalEntry,
} from "./slab-journal-entry.ts";
export {
  decodeSummaryEntry,
  defaultSummaryEntry,
  encodeSummaryEntry,
  packSummaryEntry,
  readSummaryEntry,
  type SlabSummaryEntry,
  summaryEntryAt,
  summaryFullnessHint,
  summaryIsDirty,
  summaryLoadsCounts,
  summaryTailOffset,
  writeSummaryEntry,
} from "./slab-summary-entry.ts";
export {
  decodeSuperBlock,
  encodeSuperBlock,
  SUPER_BLOCK_HEADER,
  type SuperBlock,
  superBlock,
  VOLUME_VERSION,
} from "./super-block.ts";
export {
  VDO_COMPONENT_VERSION,
  type VdoComponent,
  type VolumeConfig,
  vdoComponent,
  volumeConfig,
} from "./vdo-component.ts";
export {
  type BlockRange,
  blockMapLevels,
  computeLayout,
  defaultLogicalBlocks,
  type LayoutOptions,
  minimumVolumeBlocks,
  type VolumeLayout,
} from "./volume-layout.ts";
export { DATA_REGION, INDEX_REGION, type VolumeRegion, volumeRegion } from "./volume-region.ts";
export {
  VOLUME_STATE,
  VOLUME_STATE_NAMES,
  type VolumeState,
  type VolumeStateName,
  volumeStateName,
} from "./volume-state.ts";
