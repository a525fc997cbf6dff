/**
 * Makes metadata from damaged metadata, as thin_repair does, in one of two ways: of what the present roots still reach, or of
 * an earlier state that is whole, which is searched for on the whole device.
 */
import { isVdoError, VdoError } from "@vdo/base";
import type { BlockDevice } from "@vdo/block-device";
import type { DeviceDetails } from "../format/device-details.ts";
import type { ThinSuperblock } from "../format/superblock.ts";
import { PoolBuilder } from "../metadata/pool-builder.ts";
import { type MappingRun, RunBuilder } from "./mapping-runs.ts";
import { MetadataReader } from "./metadata-reader.ts";
import { PoolReader } from "./pool-reader.ts";
import { factsOf, type RestoreOptions } from "./restore.ts";
import { type FoundState, RootSearch } from "./search-roots.ts";
import type { LostRange } from "./tree-walk.ts";

export interface RepairOptions extends RestoreOptions {
  /**
   * `present`: what the superblock's roots reach, without what is unreadable. `earlier`: the newest state that is whole,
   * present or past. `auto`, the default: `present`, and `earlier` where the superblock or all of the devices are lost.
   */
  roots?: "auto" | "present" | "earlier";
}

/** What a repair could not save. */
export interface RepairReport {
  /** Devices that were kept. */
  devices: number[];
  /** Ranges of keys that cannot be read, by tree: virtual blocks of a device, or ids of devices. */
  lost: (LostRange & { tree: string })[];
  /** Where an earlier state was gone back to: its roots. What was changed since is lost. */
  earlier?: { mappingRoot: number; detailsRoot: number | undefined };
}

/** What new metadata is made of. */
interface Salvage {
  blocks: PoolReader;
  roots: ReadonlyMap<number, number>;
  details: ReadonlyMap<number, DeviceDetails>;
  head: { time: number; transaction: bigint; dataBlockSize: number; dataBlocks: number };
  report: RepairReport;
}

/**
 * Rebuilds everything but mappings and details: space maps, counts, numbers of mappings; there is no metadata snapshot
 * afterwards. Throws `VDO_CORRUPT` when nothing can be saved, or the size of data blocks is lost and not given.
 */
export async function repair(
  input: BlockDevice,
  output: BlockDevice,
  options: RepairOptions = {},
): Promise<RepairReport> {
  const way = options.roots ?? "auto";
  const salvage = way === "earlier" ? await earlier(input, options) : await present(input, options, way === "auto");
  const { blocks, report } = salvage;
  const facts = factsOf(salvage.head, options);
  const builder = await PoolBuilder.begin(output, facts);
  const ids = [...salvage.roots.keys()].sort((a, b) => a - b);
  for (const id of ids) {
    const lost = (range: LostRange): void => void report.lost.push({ ...range, tree: `mappings of device ${id}` });
    const runs = await readableRuns(blocks, { id, root: salvage.roots.get(id) as number }, lost);
    await builder.beginDevice();
    let mappedBlocks = 0;
    for (const run of runs.filter(({ data, length }) => data + length <= facts.dataBlocks)) {
      await builder.add(run);
      mappedBlocks += run.length;
    }
    // Without details all mappings are taken for shared, which is always safe.
    const shared = { transactionId: 0n, creationTime: 0, snapshottedTime: facts.time + 1 };
    await builder.endDevice(id, { ...(salvage.details.get(id) ?? shared), mappedBlocks });
  }
  await builder.finish();
  return { ...report, devices: ids };
}

/** What the superblock's roots reach; with `mayGoBack` an earlier state where that is nothing. */
async function present(input: BlockDevice, options: RepairOptions, mayGoBack: boolean): Promise<Salvage> {
  let blocks: PoolReader;
  try {
    blocks = await PoolReader.open(input);
  } catch (error) {
    if (!mayGoBack || !isVdoError(error, "VDO_CORRUPT")) throw error;
    return earlier(input, options, error);
  }
  const report: RepairReport = { devices: [], lost: [] };
  const lostIn = (tree: string) => (range: LostRange) => void report.lost.push({ ...range, tree });
  const roots = await blocks.roots(lostIn("mapping tree"));
  const details = await blocks.details(lostIn("device details tree"));
  if (roots.size === 0 && report.lost.length > 0) {
    if (mayGoBack) return earlier(input, options);
    throw nothingSaved("no device can be read");
  }
  const { view } = blocks;
  const head = {
    time: view.time,
    transaction: view.transactionId,
    dataBlockSize: view.dataBlockSectors,
    dataBlocks: view.dataSpaceMap.blockCount,
  };
  return { blocks, roots, details, head, report };
}

/** The newest whole state on the device. `cause`: why there is no superblock. */
async function earlier(input: BlockDevice, options: RepairOptions, cause?: VdoError): Promise<Salvage> {
  const reader = new MetadataReader(input);
  const { states, superblock: held } = await new RootSearch(reader).run();
  const blocks = await PoolReader.open(input).catch((error: unknown) => {
    if (!isVdoError(error, "VDO_CORRUPT")) throw error;
    return undefined;
  });
  const filled = states.filter(({ roots }) => roots.size > 0);
  // The state of the superblock, if it is whole, is the newest, whatever was discarded since another one.
  const state = filled.find(({ mappingRoot }) => mappingRoot === blocks?.superblock.mappingRoot) ?? filled[0];
  if (state === undefined)
    throw cause ?? nothingSaved("no device can be read, nor is there an earlier state that is whole");
  const known = blocks?.superblock ?? held;
  const dataBlockSize = options.dataBlockSize ?? known?.dataBlockSectors;
  if (dataBlockSize === undefined) {
    const message =
      "data block size needs to be provided due to corruption in the superblock: give --data-block-size, in sectors";
    throw new VdoError("VDO_CORRUPT", message, {
      structure: "ThinSuperblock",
      field: "dataBlockSectors",
      expected: "a readable superblock",
      actual: "none",
    });
  }
  return {
    blocks: PoolReader.over(reader),
    roots: state.roots,
    details: state.details,
    head: headOf(state, { dataBlockSize, superblock: blocks?.superblock, held }),
    report: { devices: [], lost: [], earlier: { mappingRoot: state.mappingRoot, detailsRoot: state.detailsRoot } },
  };
}

interface Known {
  dataBlockSize: number;
  superblock: ThinSuperblock | undefined;
  held: ThinSuperblock | undefined;
}

/** The transaction id is past all that occur, so that no user's record of a later state fits by chance. */
function headOf(state: FoundState, { dataBlockSize, superblock, held }: Known): Salvage["head"] {
  const past = state.transactionId + 1n;
  const stored = superblock?.transactionId ?? held?.transactionId ?? 0n;
  return {
    time: Math.max(state.time, superblock?.time ?? 0, held?.time ?? 0),
    transaction: stored > past ? stored : past,
    dataBlockSize,
    dataBlocks: Math.max(state.dataBlocks, superblock?.dataSpaceMap.blockCount ?? 0),
  };
}

function nothingSaved(text: string): VdoError {
  return new VdoError("VDO_CORRUPT", `${text}: restore the metadata from a dump (vdo thin restore)`, {
    structure: "mapping tree",
    field: "devices",
    expected: "at least one",
    actual: 0,
  });
}

async function readableRuns(
  pool: PoolReader,
  device: { id: number; root: number },
  lost: (range: LostRange) => void,
): Promise<MappingRun[]> {
  const runs: MappingRun[] = [];
  const builder = new RunBuilder((run) => runs.push(run));
  await pool.mappings(device, (virtual, data, time) => builder.add(virtual, data, time), lost);
  builder.end();
  return runs;
}
