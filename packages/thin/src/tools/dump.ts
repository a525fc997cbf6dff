/** The metadata of a pool as text, as thin_dump writes it. */
import type { BlockDevice } from "@vdo/block-device";
import type { ThinSuperblock } from "../format/superblock.ts";
import { DUMP_FORMATS, type DumpFormat, type DumpHead } from "./dump-format.ts";
import { type MappingRun, RunBuilder } from "./mapping-runs.ts";
import { type DeviceRecord, PoolReader, type ReadOptions } from "./pool-reader.ts";

export interface DumpOptions extends ReadOptions {
  /** Default `xml`. */
  format?: "xml" | "human_readable";
  /** Only these devices. */
  devices?: readonly number[];
  /** Leave the mappings out. */
  skipMappings?: boolean;
}

/** Characters per piece, about. */
const PIECE = 65_536;

export function dumpHead(superblock: ThinSuperblock): DumpHead {
  return {
    uuid: "",
    time: superblock.time,
    transaction: superblock.transactionId,
    flags: superblock.flags,
    version: superblock.version,
    dataBlockSize: superblock.dataBlockSectors,
    dataBlocks: superblock.dataSpaceMap.blockCount,
  };
}

/** Yields the dump in pieces. Throws `VDO_CORRUPT` at damage: what was yielded until then is incomplete. */
export async function* dump(metadata: BlockDevice, options: DumpOptions = {}): AsyncGenerator<string> {
  const format = DUMP_FORMATS[options.format ?? "xml"];
  const pool = await PoolReader.open(metadata, options);
  const records = (await pool.devices()).filter(({ id }) => options.devices?.includes(id) ?? true);
  let text = format.begin(dumpHead(pool.view));
  for (const record of records) {
    text += deviceHead(format, record);
    if (options.skipMappings !== true) {
      for await (const piece of deviceRuns(pool, record)) {
        for (const run of piece) text += format.run(run);
        if (text.length < PIECE) continue;
        yield text;
        text = "";
      }
    }
    text += format.deviceEnd();
  }
  yield text + format.end();
}

function deviceHead(format: DumpFormat, { id, details }: DeviceRecord): string {
  return format.deviceBegin({
    id,
    mappedBlocks: details.mappedBlocks,
    transaction: details.transactionId,
    creationTime: details.creationTime,
    snapTime: details.snapshottedTime,
  });
}

/** The runs of a device. */
async function* deviceRuns(pool: PoolReader, record: DeviceRecord): AsyncGenerator<MappingRun[]> {
  const runs: MappingRun[] = [];
  const builder = new RunBuilder((run) => runs.push(run));
  await pool.mappings(record, (virtualBlock, dataBlock, time) => builder.add(virtualBlock, dataBlock, time));
  builder.end();
  yield runs;
}
