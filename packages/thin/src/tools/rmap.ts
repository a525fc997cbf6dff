/** Which thin devices use given data blocks, as thin_rmap prints it. */
import { VdoError } from "@vdo/base";
import type { BlockDevice } from "@vdo/block-device";
import { type MappingRun, RunBuilder } from "./mapping-runs.ts";
import { PoolReader } from "./pool-reader.ts";

/** Data blocks from `begin` to before `end`. */
export interface Region {
  begin: number;
  end: number;
}

/** A run of data blocks and who maps it. */
export interface ReverseRun {
  device: number;
  dataBegin: number;
  virtualBegin: number;
  length: number;
}

/** `B..E`, half open. Throws `VDO_BAD_ARGUMENT`. */
export function parseRegion(text: string): Region {
  const match = /^(\d+)\.\.(\d+)$/.exec(text);
  const region = { begin: Number(match?.[1]), end: Number(match?.[2]) };
  if (match !== null && Number.isSafeInteger(region.end) && region.begin < region.end) return region;
  throw new VdoError("VDO_BAD_ARGUMENT", `region ${text}: a range looks like 5..45, its end not included`, {
    argument: "region",
    value: text,
  });
}

/** The runs that lie in the regions, by data block. Throws `VDO_CORRUPT`. */
export async function reverseMap(metadata: BlockDevice, regions: readonly Region[]): Promise<ReverseRun[]> {
  const pool = await PoolReader.open(metadata);
  const found: ReverseRun[] = [];
  for (const device of await pool.devices()) {
    const add = ({ begin, data, length }: MappingRun): void => {
      found.push({ device: device.id, dataBegin: data, virtualBegin: begin, length });
    };
    const builder = new RunBuilder(add, false);
    await pool.mappings(device, (virtualBlock, dataBlock, time) => {
      if (regions.some(({ begin, end }) => dataBlock >= begin && dataBlock < end)) {
        builder.add(virtualBlock, dataBlock, time);
      }
    });
    builder.end();
  }
  return found.sort(
    (a, b) =>
      a.dataBegin - b.dataBegin || a.length - b.length || a.device - b.device || a.virtualBegin - b.virtualBegin,
  );
}

/** `data 9..12 -> thin(10) 0..3`, one line per run. */
export function formatReverseMap(runs: readonly ReverseRun[]): string {
  return runs
    .map(
      ({ device, dataBegin, virtualBegin, length }) =>
        `data ${dataBegin}..${dataBegin + length} -> thin(${device}) ${virtualBegin}..${virtualBegin + length}\n`,
    )
    .join("");
}
