/** A region table: the first thing in the layout header and in each save header. */
import { struct, u16le, u32le, u64le, u64leBig, type ValueOf, VdoError, viewOf } from "@vdo/base";
import { corrupt } from "../errors.ts";

const MAGIC = 0x416c6252676e3031n;
const VERSION = 1;

export const TableType = { LAYOUT: 1, SAVED: 2, EMPTY: 4 } as const;
export type TableType = (typeof TableType)[keyof typeof TableType];

export const RegionKind = {
  FREE: 0,
  HEADER: 1,
  CONFIG: 100,
  SUB_INDEX: 101,
  SEAL: 102,
  VOLUME: 201,
  SAVE: 202,
  PAGE_MAP: 301,
  VOLUME_INDEX: 302,
  OPEN_CHAPTER: 303,
} as const;

/** Instance number of a region of which there is only one. */
export const ONLY_INSTANCE = 65535;

export const regionTableHeader = struct("RegionTableHeader", 24, {
  magic: u64leBig,
  regionBlocks: u64le,
  type: u16le,
  version: u16le,
  regionCount: u16le,
  payload: u16le,
});

export const layoutRegion = struct("LayoutRegion", 24, {
  startBlock: u64le,
  blockCount: u64le,
  unused: u32le,
  kind: u16le,
  instance: u16le,
});

/** A run of blocks; block numbers are those of the device as the index knows it. */
export type Region = Pick<ValueOf<typeof layoutRegion>, "startBlock" | "blockCount" | "kind" | "instance">;

export interface RegionTable {
  readonly type: number;
  readonly regionBlocks: number;
  readonly regions: readonly Region[];
  /** The bytes that follow the table. */
  readonly payload: Uint8Array;
}

/** Encodes the table and its payload into one block. */
export function encodeRegionTable(
  { type, regionBlocks, regions, payload }: RegionTable,
  blockBytes = 4096,
): Uint8Array {
  const header = {
    magic: MAGIC,
    regionBlocks,
    type,
    version: VERSION,
    regionCount: regions.length,
    payload: payload.length,
  };
  const block = regionTableHeader.encode(header, blockBytes);
  const view = viewOf(block);
  let at = regionTableHeader.size;
  for (const region of regions) {
    layoutRegion.set(view, at, { ...region, unused: 0 });
    at += layoutRegion.size;
  }
  block.set(payload, at);
  return block;
}

/**
 * Decodes the table in `block`; undefined when the magic is not there.
 * Throws `UDS_UNSUPPORTED_VERSION` and `VDO_CORRUPT`.
 */
export function decodeRegionTable(block: Uint8Array): RegionTable | undefined {
  const view = viewOf(block);
  if (regionTableHeader.at.magic.get(view, 0) !== MAGIC) return undefined;
  const version = regionTableHeader.at.version.get(view, 0);
  if (version !== VERSION) {
    throw new VdoError(
      "UDS_UNSUPPORTED_VERSION",
      `the index has region table version ${version}; only 1 is supported`,
      {
        structure: "region table",
        version,
      },
    );
  }
  const header = regionTableHeader.get(view, 0);
  const payloadAt = regionTableHeader.size + header.regionCount * layoutRegion.size;
  if (payloadAt + header.payload > block.length) {
    throw corrupt("region table", "region count", { expected: "a table within one block", actual: header.regionCount });
  }
  const regions: Region[] = [];
  for (let i = 0; i < header.regionCount; i++)
    regions.push(layoutRegion.get(view, regionTableHeader.size + i * layoutRegion.size));
  return {
    type: header.type,
    regionBlocks: header.regionBlocks,
    regions,
    payload: block.slice(payloadAt, payloadAt + header.payload),
  };
}

/** Throws `VDO_CORRUPT` unless `actual` are the regions `expected`, in their order. */
export function checkRegions(structure: string, actual: readonly Region[], expected: readonly Region[]): void {
  if (actual.length !== expected.length) {
    throw corrupt(structure, "region count", { expected: expected.length, actual: actual.length });
  }
  for (let i = 0; i < expected.length; i++) {
    for (const field of ["kind", "instance", "startBlock", "blockCount"] as const) {
      const [found, wanted] = [actual[i]?.[field], expected[i]?.[field]];
      if (found !== wanted) throw corrupt(structure, `${field} of region ${i}`, { expected: wanted, actual: found });
    }
  }
}
