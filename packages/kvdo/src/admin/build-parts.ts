/** The parts of an open volume, built from what its storage says; nothing is read or written here. */
import { systemClock } from "@vdo/base";
import type { BlockDevice } from "@vdo/block-device";
import { BlockMap } from "../block-map/block-map.ts";
import { LeafCache } from "../block-map/leaf-cache.ts";
import { PageStore } from "../block-map/page-store.ts";
import { BlockCompressor, BlockHasher } from "../compute/index.ts";
import {
  BLOCK_SIZE,
  blockMapEraLength,
  DATA_VIOS_MAX,
  DEFAULT_BLOCK_MAP_CACHE_BLOCKS,
  DEFAULT_BLOCK_MAP_MAXIMUM_AGE,
  slabJournalFlushingDeadline,
} from "../constants.ts";
import { BlockReader } from "../data-path/block-reader.ts";
import { BlockWriter } from "../data-path/block-writer.ts";
import { DataPath } from "../data-path/data-path.ts";
import { SpaceWaiters } from "../data-path/space-waiters.ts";
import { VioPool } from "../data-path/vio-pool.ts";
import type { WritePath } from "../data-path/write-path.ts";
import { IndexClient } from "../dedupe/index-client.ts";
import { IndexManager, type IndexState } from "../dedupe/index-manager.ts";
import {
  findPartition,
  fullnessHintShift,
  type Geometry,
  PARTITION,
  type SlabConfig,
  VOLUME_STATE,
} from "../format/index.ts";
import { ReadOnlyNotifier } from "../io/read-only.ts";
import type { StorageIo } from "../io/storage-io.ts";
import type { MappingChanges } from "../recovery/journal-entries.ts";
import { RecoveryJournal } from "../recovery-journal/recovery-journal.ts";
import type { Slab } from "../slab/slab.ts";
import type { SlabRules } from "../slab/slab-context.ts";
import { SlabDepot } from "../slab/slab-depot.ts";
import { StorageDiscards } from "../slab/storage-discards.ts";
import type { VdoStatistics } from "../statistics/index.ts";
import type { SuperBlockKeeper, SuperBlockUsage } from "./super-block-keeper.ts";
import type { VolumeEvent, VolumeOptions } from "./volume-options.ts";

export interface OpenParts {
  geometry: Geometry;
  keeper: SuperBlockKeeper;
  io: StorageIo;
  notifier: ReadOnlyNotifier;
  statistics: VdoStatistics;
  journal: RecoveryJournal;
  depot: SlabDepot;
  blockMap: BlockMap;
  dataPath: DataPath;
  write: WritePath;
  client: IndexClient;
  index: IndexManager;
  cacheBlocks: number;
  maximumAge: number;
  /** Nothing is ever written: opened read-only, or found in read-only mode. */
  isStatic: boolean;
  /** Opened to be read without the recovery that it needs: nothing is known of its space. */
  isUnrecovered: boolean;
  /** Counters for the super block of read-only mode after a recovery that failed. */
  failedUsage: SuperBlockUsage | null;
  /** Never started before. */
  wasNew: boolean;
  deduplication: boolean;
  /** Settles when the super block of read-only mode is written, or could not be. */
  readOnlySaved: Promise<void>;
  /** Counters for the super block as they are now. */
  usage(): SuperBlockUsage;
  snapshot(): VdoStatistics;
}

export interface Found {
  device: BlockDevice;
  options: VolumeOptions & { readOnly: boolean };
  emit: (event: VolumeEvent) => void;
  geometry: Geometry;
  statistics: VdoStatistics;
  io: StorageIo;
  keeper: SuperBlockKeeper;
  /** Changes to be made to pages as they are read. */
  overlay?: MappingChanges | null;
}

/** The metadata of a volume in memory: journal, slabs, block map. They refer to each other and to the data path. */
function buildMetadata(
  { statistics, io, keeper, options, overlay = null }: Found,
  notifier: ReadOnlyNotifier,
  isUrgent: () => boolean,
) {
  const { vdo, layout, recoveryJournal, slabDepot, blockMap: map } = keeper.value;
  const journalPartition = findPartition(layout, PARTITION.recoveryJournal);
  const journal: RecoveryJournal = new RecoveryJournal(
    {
      io,
      notifier,
      statistics,
      clock: options.clock ?? systemClock,
      origin: journalPartition.start,
      size: journalPartition.count,
      nonce: vdo.nonce,
      recoveries: vdo.completeRecoveries,
      start: recoveryJournal.journalStart,
      logicalBlocksUsed: recoveryJournal.logicalBlocksUsed,
      blockMapDataBlocks: recoveryJournal.blockMapDataBlocks,
    },
    {
      isUrgent,
      onAdvance: (tail) => store.advance(tail),
      commitSlabJournals: (sequence) => depot.commitOldestTails(sequence),
    },
  );
  const depot = new SlabDepot({
    io,
    notifier,
    statistics,
    journalLocks: journal.locks,
    config: slabRules(slabDepot.slabConfig, vdo.nonce),
    firstBlock: slabDepot.firstBlock,
    lastBlock: slabDepot.lastBlock,
    summaryOrigin: findPartition(layout, PARTITION.slabSummary).start,
    onUpdated: ({ vio }) => {
      vio.referencesPending--;
      if (vio.referencesPending === 0) vio.onReferenced(vio);
    },
  });
  const store: PageStore = new PageStore({
    io,
    notifier,
    statistics,
    journalLocks: journal.locks,
    eraLength: blockMapEraLength(options.maximumAge ?? DEFAULT_BLOCK_MAP_MAXIMUM_AGE),
    onWritten: () => leaves.onWritten(),
  });
  const capacity = options.blockMapCacheBlocks ?? DEFAULT_BLOCK_MAP_CACHE_BLOCKS;
  const leaves = new LeafCache({ io, notifier, statistics, store, nonce: vdo.nonce, capacity, overlay });
  const { rootOrigin } = map;
  const { nonce } = vdo;
  const space = new SpaceWaiters({ notifier, hurry: () => journal.hurry(), hasSpace: () => depot.freeBlocks > 0 });
  const blockMap = new BlockMap({ io, notifier, journal, depot, leaves, store, space, rootOrigin, nonce, overlay });
  depot.discards = buildDiscards({ io, notifier, depot, space, options });
  return { journal, depot, blockMap, space };
}

/** Freed blocks wait so long for their neighbours before they are discarded on the storage. */
const DISCARD_DELAY_MILLISECONDS = 1000;

/** What gives freed blocks back to the storage, if that is wanted and the storage takes them. */
function buildDiscards(parts: {
  io: StorageIo;
  notifier: ReadOnlyNotifier;
  depot: SlabDepot;
  space: SpaceWaiters;
  options: Found["options"];
}): StorageDiscards | null {
  const { io, notifier, depot, space, options } = parts;
  const { discardStorage, clock = systemClock, log = () => undefined } = options;
  if (discardStorage === undefined || options.readOnly) return null;
  const { groupBlocks, delayMs = DISCARD_DELAY_MILLISECONDS } = discardStorage;
  if (!io.canDiscard) {
    log("warning", "the storage cannot discard: freed blocks are not given back to it");
    return null;
  }
  const hold = (slab: Slab, first: number, count: number): void => {
    space.hold();
    depot.holdFree(slab, first, count);
  };
  const release = (slab: Slab, first: number): void => {
    depot.releaseFree(slab, first);
    space.release();
  };
  return new StorageDiscards({ io, notifier, clock, log, groupBlocks, delayMs, hold, release });
}

function slabRules(config: SlabConfig, nonce: bigint): SlabRules {
  const thresholds = {
    flushing: config.flushingThreshold,
    blocking: config.blockingThreshold,
    scrubbing: config.scrubbingThreshold,
  };
  return {
    ...config,
    flushingDeadline: slabJournalFlushingDeadline(thresholds),
    hintShift: fullnessHintShift(config.slabBlocks),
    nonce,
  };
}

export function buildParts(found: Found): OpenParts {
  const { device, options, emit, geometry, statistics, io, keeper } = found;
  const clock = options.clock ?? systemClock;
  const log = options.log ?? (() => undefined);
  const notifier = new ReadOnlyNotifier();
  const metadata = buildMetadata(found, notifier, () => dataPath.isUrgent);
  const { journal, depot } = metadata;
  const client = new IndexClient({ statistics, depot, clock, log: (text) => log("warning", text) });
  client.isEnabled = options.deduplication !== false;
  const pool = new VioPool(options.dataVios ?? DATA_VIOS_MAX);
  const dataPath: DataPath = new DataPath({
    ...metadata,
    statistics,
    notifier,
    reader: new BlockReader(io),
    writer: new BlockWriter(io),
    hasher: new BlockHasher(),
    compressor: new BlockCompressor(),
    index: client,
    log,
    pool,
    logicalBlocks: keeper.value.vdo.config.logicalBlocks,
    onNoSpace: () => emit({ type: "full" }),
  });
  dataPath.write.compression = options.compression !== false;
  const onChange = (state: IndexState): void => emit({ type: "index", state });
  const index = new IndexManager({
    device,
    geometry,
    client,
    clock,
    statistics,
    log,
    onChange,
    prefault: options.prefaultIndex === true,
  });
  const parts: OpenParts = {
    ...metadata,
    geometry,
    keeper,
    io,
    notifier,
    statistics,
    dataPath,
    write: dataPath.write,
    client,
    index,
    cacheBlocks: options.blockMapCacheBlocks ?? DEFAULT_BLOCK_MAP_CACHE_BLOCKS,
    maximumAge: options.maximumAge ?? DEFAULT_BLOCK_MAP_MAXIMUM_AGE,
    isStatic: options.readOnly,
    isUnrecovered: false,
    failedUsage: null,
    wasNew: keeper.state === VOLUME_STATE.new,
    deduplication: options.deduplication !== false,
    readOnlySaved: Promise.resolve(),
    usage: () => ({
      journalStart: journal.tail,
      logicalBlocksUsed: journal.logicalBlocksUsed,
      blockMapDataBlocks: journal.blockMapDataBlocks,
    }),
    snapshot: () => snapshot(parts, pool, options),
  };
  return parts;
}

function snapshot(parts: OpenParts, pool: VioPool, options: VolumeOptions): VdoStatistics {
  const { statistics, keeper, depot, journal, notifier, blockMap, index } = parts;
  const { vdo } = keeper.value;
  statistics.dataBlocksUsed = depot.allocatedBlocks - journal.blockMapDataBlocks;
  statistics.overheadBlocksUsed = vdo.config.physicalBlocks - depot.dataBlocks + journal.blockMapDataBlocks;
  statistics.logicalBlocksUsed = journal.logicalBlocksUsed;
  statistics.physicalBlocks = vdo.config.physicalBlocks;
  statistics.logicalBlocks = vdo.config.logicalBlocks;
  statistics.blockMapCacheSize = parts.cacheBlocks * BLOCK_SIZE;
  statistics.completeRecoveries = vdo.completeRecoveries;
  statistics.readOnlyRecoveries = vdo.readOnlyRecoveries;
  const isRecovering = depot.scrubber.left > 0;
  // What is not recovered has no figures of its space: printers say N/A in this mode.
  statistics.mode = notifier.isReadOnly || parts.isUnrecovered ? "read-only" : isRecovering ? "recovering" : "normal";
  statistics.inRecoveryMode = isRecovering;
  statistics.recoveryPercentage = depot.scrubber.percentage;
  statistics.instance = options.instance ?? 0;
  statistics.currentVIOsInProgress = pool.inUse;
  statistics.maxVIOs = pool.maximumInUse;
  statistics.logicalBlockSize = options.logicalBlockSize ?? BLOCK_SIZE;
  blockMap.leaves.gauge();
  index.gauge();
  const memory = process.memoryUsage();
  statistics.memoryUsage.bytesUsed = memory.arrayBuffers + memory.heapUsed;
  statistics.memoryUsage.peakBytesUsed = Math.max(
    statistics.memoryUsage.peakBytesUsed,
    statistics.memoryUsage.bytesUsed,
  );
  const copy = structuredClone(statistics);
  for (const key of Object.keys(copy.biosIn) as (keyof typeof copy.biosIn)[]) {
    copy.biosInProgress[key] = copy.biosIn[key] - copy.biosAcknowledged[key];
  }
  return copy;
}
