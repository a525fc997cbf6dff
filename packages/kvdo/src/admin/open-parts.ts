/** Opens a volume: reads and checks what the storage says, builds the engine's parts, and loads them (Linux 6.12, load). */
import { systemClock, VdoError } from "@vdo/base";
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
  journalUsableBlocks,
  MAXIMUM_LOGICAL_BLOCKS,
  slabJournalFlushingDeadline,
} from "../constants.ts";
import { BlockReader } from "../data-path/block-reader.ts";
import { BlockWriter } from "../data-path/block-writer.ts";
import { DataPath } from "../data-path/data-path.ts";
import { VioPool } from "../data-path/vio-pool.ts";
import type { WritePath } from "../data-path/write-path.ts";
import { IndexClient } from "../dedupe/index-client.ts";
import { IndexManager, type IndexState } from "../dedupe/index-manager.ts";
import {
  checkConfiguration,
  decodeGeometryBlock,
  findPartition,
  fullnessHintShift,
  type Geometry,
  PARTITION,
  type SlabConfig,
  VOLUME_STATE,
  volumeStateName,
} from "../format/index.ts";
import { ReadOnlyNotifier } from "../io/read-only.ts";
import { StorageIo } from "../io/storage-io.ts";
import { RecoveryJournal } from "../recovery-journal/recovery-journal.ts";
import type { SlabRules } from "../slab/slab-context.ts";
import { SlabDepot } from "../slab/slab-depot.ts";
import { emptyStatistics, type VdoStatistics } from "../statistics/index.ts";
import { SuperBlockKeeper, type SuperBlockUsage } from "./super-block-keeper.ts";
import type { VolumeEvent, VolumeOptions } from "./volume-options.ts";

/** Smallest block map cache. */
const CACHE_BLOCKS_MIN = 128;

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
  /** Never started before. */
  wasNew: boolean;
  deduplication: boolean;
  /** Settles when the super block of read-only mode is written, or could not be. */
  readOnlySaved: Promise<void>;
  /** Counters for the super block as they are now. */
  usage(): SuperBlockUsage;
  snapshot(): VdoStatistics;
}

/** Reads the geometry block. Throws as `decodeGeometryBlock` does. */
export async function readGeometry(device: BlockDevice): Promise<Geometry> {
  if (device.blockCount < 1) {
    throw new VdoError("VDO_BAD_MAGIC", "the device is empty: there is no VDO volume on it", {
      structure: "GeometryBlock",
      field: "magic",
      expected: "dmvdo001",
      actual: "",
    });
  }
  const block = new Uint8Array(BLOCK_SIZE);
  await device.read(0, block);
  return decodeGeometryBlock(block);
}

function checkOptions(options: VolumeOptions, journalBlocks: number): void {
  const refuse = (argument: string, value: unknown, rule: string): never => {
    throw new VdoError("VDO_BAD_ARGUMENT", `${argument} is ${String(value)}; it must be ${rule}`, { argument, value });
  };
  const cache = options.blockMapCacheBlocks ?? DEFAULT_BLOCK_MAP_CACHE_BLOCKS;
  if (!Number.isInteger(cache) || cache < CACHE_BLOCKS_MIN) {
    refuse("blockMapCacheBlocks", cache, `a whole number of at least ${CACHE_BLOCKS_MIN}`);
  }
  const age = options.maximumAge ?? DEFAULT_BLOCK_MAP_MAXIMUM_AGE;
  const longest = Math.floor(journalUsableBlocks(journalBlocks) / 2);
  if (!Number.isInteger(age) || age < 1 || blockMapEraLength(age) > longest) {
    refuse("maximumAge", age, "1 to 22855 for a journal of 32768 blocks");
  }
  const vios = options.dataVios ?? DATA_VIOS_MAX;
  if (!Number.isInteger(vios) || vios < 1 || vios > DATA_VIOS_MAX) refuse("dataVios", vios, `1 to ${DATA_VIOS_MAX}`);
  const size = options.logicalBlockSize ?? BLOCK_SIZE;
  if (size !== 512 && size !== BLOCK_SIZE) refuse("logicalBlockSize", size, "512 or 4096");
}

/** Refuses states that need what this program does not do at a start, and says what to do about them. */
function checkState(keeper: SuperBlockKeeper, readOnly: boolean): void {
  const name = volumeStateName(keeper.state);
  switch (keeper.state) {
    case VOLUME_STATE.new:
    case VOLUME_STATE.clean:
    case VOLUME_STATE.readOnly:
      return;
    case VOLUME_STATE.recovering:
      if (!readOnly) return;
      break;
    default:
  }
  throw new VdoError(
    "VDO_DIRTY",
    `the volume is in state ${name}: it was not stopped cleanly and needs recovery, which this version does not do. ` +
      "Start and stop it once with the Linux kernel's dm-vdo, then open it here",
    { state: name },
  );
}

/** Grows the logical size as a start with a larger one does: recorded by the first save. */
function growLogical(keeper: SuperBlockKeeper, wanted: number | undefined): void {
  const { config } = keeper.value.vdo;
  if (wanted === undefined || wanted === config.logicalBlocks) return;
  if (wanted < config.logicalBlocks || wanted > MAXIMUM_LOGICAL_BLOCKS) {
    throw new VdoError(
      "VDO_PARAMETER_MISMATCH",
      `the volume has ${config.logicalBlocks} logical blocks; it can grow to at most ${MAXIMUM_LOGICAL_BLOCKS}, and not shrink to ${wanted}`,
      { structure: "VolumeConfig", field: "logicalBlocks", expected: config.logicalBlocks, actual: wanted },
    );
  }
  config.logicalBlocks = wanted;
}

/** Opens the volume on `device`; see `VdoVolume.open` for what it throws. */
export async function openParts(
  device: BlockDevice,
  options: VolumeOptions & { readOnly: boolean },
  emit: (event: VolumeEvent) => void,
): Promise<OpenParts> {
  const geometry = await readGeometry(device);
  const statistics = emptyStatistics();
  const io = new StorageIo(device, geometry.bioOffset, statistics);
  checkDeviceHolds(device, geometry);
  const keeper = await SuperBlockKeeper.load(io, geometry.dataStart);
  checkConfiguration(keeper.value, geometry, device.blockCount);
  checkOptions(options, keeper.value.vdo.config.recoveryJournalBlocks);
  checkState(keeper, options.readOnly);
  growLogical(keeper, options.logicalBlocks);
  const parts = buildParts({ device, options, emit, geometry, statistics, io, keeper });
  if (keeper.state === VOLUME_STATE.readOnly) {
    parts.isStatic = true;
    parts.notifier.enter(
      new VdoError("VDO_READ_ONLY", "it was in read-only mode when it was stopped", { object: "volume" }),
    );
  }
  if (parts.isStatic) await loadForReading(parts);
  else await loadParts(parts);
  return parts;
}

function checkDeviceHolds(device: BlockDevice, geometry: Geometry): void {
  const block = geometry.dataStart - geometry.bioOffset;
  if (block < device.blockCount) return;
  throw new VdoError(
    "VDO_PARAMETER_MISMATCH",
    `the super block is block ${block}, the device has only ${device.blockCount} blocks of 4096 bytes: it was cut short`,
    { structure: "GeometryBlock", field: "dataStart", expected: `below ${device.blockCount}`, actual: block },
  );
}

interface Found {
  device: BlockDevice;
  options: VolumeOptions & { readOnly: boolean };
  emit: (event: VolumeEvent) => void;
  geometry: Geometry;
  statistics: VdoStatistics;
  io: StorageIo;
  keeper: SuperBlockKeeper;
}

/** The metadata of a volume in memory: journal, slabs, block map. They refer to each other and to the data path. */
function buildMetadata(
  { statistics, io, keeper, options }: Found,
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
  const leaves = new LeafCache({ io, notifier, statistics, store, nonce: vdo.nonce, capacity });
  const { rootOrigin } = map;
  const blockMap = new BlockMap({ io, notifier, journal, depot, leaves, store, rootOrigin, nonce: vdo.nonce });
  return { journal, depot, blockMap };
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

function buildParts(found: Found): OpenParts {
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
  const index = new IndexManager({ device, geometry, client, clock, statistics, log, onChange });
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

/** Loads the counts of a volume that is opened read-only, for its statistics. Nothing is written, and damage is no obstacle. */
async function loadForReading({ depot, keeper, notifier, wasNew }: OpenParts): Promise<void> {
  if (notifier.isReadOnly) return;
  try {
    await depot.loadSummary({ isNew: wasNew, oldZones: keeper.value.slabDepot.zoneCount });
    await depot.loadJournals();
    await depot.loadCounts({ save: false });
  } catch (error) {
    notifier.enter(error);
  }
}

/** Loads the depot and marks the volume as in use: from the super block's save on it must be stopped cleanly. */
async function loadParts({ depot, keeper, notifier, usage, wasNew }: OpenParts): Promise<void> {
  await depot.loadSummary({ isNew: wasNew, oldZones: keeper.value.slabDepot.zoneCount });
  await depot.loadJournals();
  await depot.summary.writeAllCopies();
  await keeper.save(VOLUME_STATE.dirty, usage());
  try {
    await depot.loadCounts({ save: true });
  } catch (error) {
    // The volume comes up readable, and stays so: its counts are not known.
    notifier.enter(error);
  }
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
  statistics.mode = notifier.isReadOnly ? "read-only" : "normal";
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
