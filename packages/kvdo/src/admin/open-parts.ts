/** Opens a volume: reads and checks what the storage says, builds the engine's parts, and loads them (Linux 6.12, load). */
import { VdoError } from "@vdo/base";
import type { BlockDevice } from "@vdo/block-device";
import {
  BLOCK_SIZE,
  blockMapEraLength,
  DATA_VIOS_MAX,
  DEFAULT_BLOCK_MAP_CACHE_BLOCKS,
  DEFAULT_BLOCK_MAP_MAXIMUM_AGE,
  journalUsableBlocks,
  MAXIMUM_LOGICAL_BLOCKS,
} from "../constants.ts";
import {
  checkConfiguration,
  decodeGeometryBlock,
  type Geometry,
  VOLUME_STATE,
  type VolumeState,
  volumeStateName,
} from "../format/index.ts";
import { StorageIo } from "../io/storage-io.ts";
import type { JournalAnalysis } from "../recovery/journal-analysis.ts";
import type { MappingChanges } from "../recovery/journal-entries.ts";
import type { RebuildReport } from "../recovery/rebuild.ts";
import { rebuildParts } from "../recovery/rebuild-parts.ts";
import { entryBounds, planRecovery, type RecoveryContext, recoverBlockMap, scanJournal } from "../recovery/recover.ts";
import { replaySlabJournals } from "../recovery/replay-slab-journals.ts";
import { salvageJournal } from "../recovery/salvage.ts";
import { emptyStatistics } from "../statistics/index.ts";
import { buildParts, type Found, type OpenParts } from "./build-parts.ts";
import { SuperBlockKeeper } from "./super-block-keeper.ts";
import type { RecoveryCause, VolumeEvent, VolumeOptions } from "./volume-options.ts";

/** Smallest block map cache. */
const CACHE_BLOCKS_MIN = 128;

/** Blocks that are discarded together at most: 2 MiB. */
const DISCARD_GROUP_MAX = 512;

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
  const group = options.discardStorage?.groupBlocks ?? 1;
  if (!Number.isInteger(group) || group < 1 || group > DISCARD_GROUP_MAX) {
    refuse("discardStorage.groupBlocks", group, `1 to ${DISCARD_GROUP_MAX}`);
  }
  const size = options.logicalBlockSize ?? BLOCK_SIZE;
  if (size !== 512 && size !== BLOCK_SIZE) refuse("logicalBlockSize", size, "512 or 4096");
}

const isDirty = ({ state }: SuperBlockKeeper): boolean =>
  state === VOLUME_STATE.dirty || state === VOLUME_STATE.replaying;

const needsRebuild = ({ state }: SuperBlockKeeper): boolean =>
  state === VOLUME_STATE.forceRebuild || state === VOLUME_STATE.rebuildForUpgrade;

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
  volumeStateName(keeper.state);
  growLogical(keeper, options.logicalBlocks);
  const found = { device, options, emit, geometry, statistics, io, keeper };
  const context = recoveryContext(found);
  if (isDirty(keeper)) return openDirty(found, context);
  if (needsRebuild(keeper) && !options.readOnly) return openForRebuild(found, context);
  const parts = buildParts({ ...found, overlay: await overlayForReading(found, context) });
  if (keeper.state === VOLUME_STATE.readOnly) {
    parts.isStatic = true;
    parts.notifier.enter(
      new VdoError("VDO_READ_ONLY", "it was in read-only mode when it was stopped", { object: "volume" }),
    );
  }
  if (parts.isStatic) await loadForReading(parts);
  else await loadParts(parts, context);
  return parts;
}

function recoveryCause(keeper: SuperBlockKeeper): RecoveryCause {
  if (keeper.state === VOLUME_STATE.readOnly) return "read-only";
  return needsRebuild(keeper) ? "rebuild" : "crash";
}

function recoveryContext({ io, keeper, options, emit }: Found): RecoveryContext {
  const cause = recoveryCause(keeper);
  return {
    io,
    keeper,
    log: options.log ?? (() => undefined),
    progress: (phase, done, of) => emit({ type: "recovery", cause, phase, done, of }),
  };
}

/** A volume in read-only mode was not recovered: what its journal still says is applied to what is read. */
async function overlayForReading({ keeper }: Found, context: RecoveryContext): Promise<MappingChanges | null> {
  if (keeper.state !== VOLUME_STATE.readOnly && !needsRebuild(keeper)) return null;
  return (await planRecovery(context, true)).overlay;
}

/** Opens a volume that was not stopped cleanly: recovers it, or, to be read only, makes the journal's changes in memory. */
async function openDirty(found: Found, context: RecoveryContext): Promise<OpenParts> {
  const { keeper, options } = found;
  const plan = await planRecovery(context, options.readOnly);
  if (options.readOnly) {
    const parts = buildParts({ ...found, overlay: plan.overlay });
    parts.isUnrecovered = true;
    return parts;
  }
  const before = structuredClone(keeper.value);
  let { failure } = plan;
  if (plan.analysis !== null) {
    try {
      await recoverBlockMap(context, plan.analysis);
    } catch (error) {
      failure = error;
    }
  }
  const parts = buildParts(found);
  if (failure === null && plan.analysis !== null) failure = await loadRecovered(parts, context, plan.analysis);
  if (failure !== null) {
    // Nothing was committed: the super block keeps the old journal, so that it can be looked at, and used by a rebuild.
    Object.assign(keeper.value, before);
    parts.failedUsage = before.recoveryJournal;
    parts.notifier.enter(failure);
  }
  return parts;
}

/** From the block map on: returns what went wrong before the commit point, or null. */
async function loadRecovered(parts: OpenParts, context: RecoveryContext, analysis: JournalAnalysis): Promise<unknown> {
  const { depot, keeper, notifier, usage } = parts;
  try {
    await depot.loadSummary({ isNew: false, oldZones: keeper.value.slabDepot.zoneCount });
    await depot.loadJournals();
    await depot.summary.writeAllCopies();
    const made = await replaySlabJournals(analysis, depot);
    context.log("info", `replayed ${made} journal entries into slab journals`);
    await keeper.save(VOLUME_STATE.dirty, usage());
  } catch (error) {
    return error ?? new Error("recovery failed");
  }
  await scrub(parts, context);
  return notifier.error;
}

/** Brings the volume online with at least one slab; the others are recovered in the background. */
async function scrub({ depot, notifier }: OpenParts, context: RecoveryContext): Promise<void> {
  const total = depot.slabs.length;
  depot.scrubber.onProgress = (left) => {
    context.progress("slabs", total - left, total);
    if (left === 0) context.log("info", "all slabs are recovered");
  };
  try {
    await depot.prepareScrubbing();
    depot.scrubber.start();
  } catch (error) {
    notifier.enter(error);
  }
}

/** Geometry and super block of a volume that is not running, checked. Nothing is written. */
export async function openStopped(
  device: BlockDevice,
): Promise<{ geometry: Geometry; io: StorageIo; keeper: SuperBlockKeeper }> {
  const geometry = await readGeometry(device);
  const io = new StorageIo(device, geometry.bioOffset, emptyStatistics());
  checkDeviceHolds(device, geometry);
  const keeper = await SuperBlockKeeper.load(io, geometry.dataStart);
  checkConfiguration(keeper.value, geometry, device.blockCount);
  return { geometry, io, keeper };
}

/** What a rebuild of the volume on `device` would keep and lose, if `check` lets its state pass. Nothing is written. */
export async function planRebuild(device: BlockDevice, check: (state: VolumeState) => void): Promise<RebuildReport> {
  const { geometry, io, keeper } = await openStopped(device);
  check(keeper.state);
  const statistics = emptyStatistics();
  const found: Found = { device, options: { readOnly: true }, emit: () => undefined, geometry, statistics, io, keeper };
  const context = recoveryContext(found);
  const salvage = salvageJournal(await scanJournal(context), entryBounds(keeper));
  return rebuildParts({ parts: buildParts(found), salvage, save: false, context });
}

/** The read-only rebuild. Until its super block is written it can be repeated. */
async function openForRebuild(found: Found, context: RecoveryContext): Promise<OpenParts> {
  const { keeper } = found;
  const scan = await scanJournal(context);
  const salvage = salvageJournal(scan, entryBounds(keeper));
  const parts = buildParts(found);
  const report = await rebuildParts({ parts, salvage, save: true, context });
  context.log(
    "info",
    `rebuilt: ${report.logicalBlocksUsed} logical blocks, ${report.blockMapDataBlocks} block map pages`,
  );
  for (const sample of report.samples) context.log("warning", sample);
  const { vdo, recoveryJournal } = keeper.value;
  if (keeper.state === VOLUME_STATE.forceRebuild) {
    vdo.readOnlyRecoveries++;
    vdo.completeRecoveries++;
  }
  recoveryJournal.journalStart = scan.highest + 1;
  recoveryJournal.logicalBlocksUsed = report.logicalBlocksUsed;
  recoveryJournal.blockMapDataBlocks = report.blockMapDataBlocks;
  // The journal's position and recovery count changed: the engine is built anew on them, with the counts that were made.
  const rebuilt = buildParts(found);
  await found.keeper.save(VOLUME_STATE.dirty, rebuilt.usage());
  await rebuilt.depot.loadSummary({ isNew: false, oldZones: 1 });
  await rebuilt.depot.loadJournals();
  await rebuilt.depot.loadCounts({ save: true });
  return rebuilt;
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
async function loadParts(parts: OpenParts, context: RecoveryContext): Promise<void> {
  const { depot, keeper, notifier, usage, wasNew } = parts;
  const wasRecovering = keeper.state === VOLUME_STATE.recovering;
  try {
    await depot.loadSummary({ isNew: wasNew, oldZones: keeper.value.slabDepot.zoneCount });
    await depot.loadJournals();
    await depot.summary.writeAllCopies();
    await keeper.save(VOLUME_STATE.dirty, usage());
    if (!wasRecovering) await depot.loadCounts({ save: true });
  } catch (error) {
    // The volume comes up readable, and stays so: its counts are not known.
    notifier.enter(error);
    return;
  }
  if (wasRecovering) await scrub(parts, context);
}
