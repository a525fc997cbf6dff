/** Makes metadata from a dump, as thin_restore does, and from damaged metadata, as thin_repair does. */
import { VdoError } from "@vdo/base";
import type { BlockDevice } from "@vdo/block-device";
import type { DeviceDetails } from "../format/device-details.ts";
import { PoolBuilder } from "../metadata/pool-builder.ts";
import { checkBlockSectors } from "../pool/features.ts";
import type { DumpDevice, DumpHead } from "./dump-format.ts";
import { type MappingRun, RunBuilder } from "./mapping-runs.ts";
import { PoolReader } from "./pool-reader.ts";
import type { LostRange } from "./tree-walk.ts";
import { readDump } from "./xml-reader.ts";

/** Figures that replace those found; transaction and number of blocks can only be raised. */
export interface RestoreOptions {
  transactionId?: bigint;
  /** Sectors. */
  dataBlockSize?: number;
  dataBlocks?: number;
}

/** Restores `pieces` of a dump's XML to `output`, whose content is given up. Throws `VDO_THIN_SYNTAX`, `VDO_NO_SPACE`. */
export async function restore(
  pieces: AsyncIterable<string>,
  output: BlockDevice,
  options: RestoreOptions = {},
): Promise<void> {
  let builder: PoolBuilder | undefined;
  let device: DumpDevice | undefined;
  await readDump(pieces, {
    async begin(head) {
      builder = await PoolBuilder.begin(output, factsOf(head, options));
    },
    async deviceBegin(one) {
      device = one;
      await builder?.beginDevice();
    },
    run: (run) => builder?.add(run),
    async deviceEnd() {
      if (device !== undefined) await builder?.endDevice(device.id, detailsOf(device));
    },
    async end() {
      await builder?.finish();
    },
  });
}

function factsOf(
  head: Pick<DumpHead, "time" | "transaction" | "dataBlockSize" | "dataBlocks">,
  options: RestoreOptions,
) {
  const wanted = options.transactionId ?? 0n;
  return {
    time: head.time,
    transactionId: wanted > head.transaction ? wanted : head.transaction,
    blockSectors: checkBlockSectors(options.dataBlockSize ?? head.dataBlockSize),
    dataBlocks: Math.max(head.dataBlocks, options.dataBlocks ?? 0),
  };
}

function detailsOf({ mappedBlocks, transaction, creationTime, snapTime }: DumpDevice): DeviceDetails {
  return { mappedBlocks, transactionId: transaction, creationTime, snapshottedTime: snapTime };
}

/** What a repair could not save. */
export interface RepairReport {
  /** Devices that were kept. */
  devices: number[];
  /** Ranges of keys that cannot be read, by tree: virtual blocks of a device, or ids of devices. */
  lost: (LostRange & { tree: string })[];
}

/**
 * Keeps what can be reached from the superblock's roots and rebuilds everything else: space maps, counts, numbers of mappings.
 * Throws `VDO_CORRUPT` when the superblock cannot be read, or nothing of the devices can.
 */
export async function repair(
  input: BlockDevice,
  output: BlockDevice,
  options: RestoreOptions = {},
): Promise<RepairReport> {
  const pool = await PoolReader.open(input);
  const lost: RepairReport["lost"] = [];
  const lostIn = (tree: string) => (range: LostRange) => void lost.push({ ...range, tree });
  const roots = await pool.roots(lostIn("mapping tree"));
  const details = await pool.details(lostIn("device details tree"));
  if (roots.size === 0 && lost.length > 0) {
    throw new VdoError("VDO_CORRUPT", "no device can be read: restore the metadata from a dump (vdo thin restore)", {
      structure: "mapping tree",
      field: "devices",
      expected: "at least one",
      actual: 0,
    });
  }
  const { view } = pool;
  const head = {
    time: view.time,
    transaction: view.transactionId,
    dataBlockSize: view.dataBlockSectors,
    dataBlocks: view.dataSpaceMap.blockCount,
  };
  const facts = factsOf(head, options);
  const builder = await PoolBuilder.begin(output, facts);
  for (const [id, root] of roots) {
    const runs = await readableRuns(pool, { id, root }, lostIn(`mappings of device ${id}`));
    const within = runs.filter(({ data, length }) => data + length <= facts.dataBlocks);
    await builder.beginDevice();
    let mappedBlocks = 0;
    for (const run of within) {
      await builder.add(run);
      mappedBlocks += run.length;
    }
    // Without details all mappings are taken for shared, which is always safe.
    const found = details.get(id) ?? { transactionId: 0n, creationTime: 0, snapshottedTime: view.time + 1 };
    await builder.endDevice(id, { ...found, mappedBlocks });
  }
  await builder.finish();
  return { devices: [...roots.keys()], lost };
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
