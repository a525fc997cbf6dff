/** The devices of a pool in a table, as thin_ls prints it. */
import { VdoError } from "@vdo/base";
import type { BlockDevice } from "@vdo/block-device";
import { SECTOR_BYTES } from "../constants.ts";
import { type DeviceRecord, PoolReader, type ReadOptions } from "./pool-reader.ts";

/** The columns, by thin_ls's names. */
export const LS_FIELDS = [
  ...["DEV", "MAPPED_BLOCKS", "EXCLUSIVE_BLOCKS", "SHARED_BLOCKS"],
  ...["MAPPED_SECTORS", "EXCLUSIVE_SECTORS", "SHARED_SECTORS"],
  ...["MAPPED_BYTES", "EXCLUSIVE_BYTES", "SHARED_BYTES", "MAPPED", "EXCLUSIVE", "SHARED"],
  ...["TRANSACTION", "CREATE_TIME", "SNAP_TIME"],
] as const;
export const LS_DEFAULT: readonly string[] = ["DEV", "MAPPED", "CREATE_TIME", "SNAP_TIME"];

export interface LsOptions extends ReadOptions {
  /** Names out of {@link LS_FIELDS}. */
  fields?: readonly string[];
  noHeaders?: boolean;
}

/** A device with what it alone maps. */
export interface DeviceUsage extends DeviceRecord {
  /** Blocks that no other device maps, and this one once. */
  exclusiveBlocks: number;
}

/** Counts 0, 1 and "more" of data blocks, in pages that exist once something in them was counted. */
class SaturatingCounts {
  readonly #pages = new Map<number, Uint8Array>();

  add(block: number): void {
    const number = Math.floor(block / 65_536);
    let page = this.#pages.get(number);
    if (page === undefined) {
      page = new Uint8Array(65_536);
      this.#pages.set(number, page);
    }
    const index = block % 65_536;
    if ((page[index] as number) < 2) page[index] = (page[index] as number) + 1;
  }

  isOne(block: number): boolean {
    return this.#pages.get(Math.floor(block / 65_536))?.[block % 65_536] === 1;
  }
}

/** The devices with their exclusive blocks, ascending by id. Throws `VDO_CORRUPT`. */
export async function deviceUsage(pool: PoolReader, countExclusive = true): Promise<DeviceUsage[]> {
  const devices = await pool.devices();
  if (!countExclusive) return devices.map((device) => ({ ...device, exclusiveBlocks: 0 }));
  const counts = new SaturatingCounts();
  for (const device of devices) await pool.mappings(device, (_virtual, block) => counts.add(block));
  const usage: DeviceUsage[] = [];
  for (const device of devices) {
    let exclusiveBlocks = 0;
    await pool.mappings(device, (_virtual, block) => {
      if (counts.isOne(block)) exclusiveBlocks++;
    });
    usage.push({ ...device, exclusiveBlocks });
  }
  return usage;
}

const UNITS = ["b", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/** Bytes in the unit in which the number is at most 8192, rounded to the nearest: `66MiB`. */
export function scaledBytes(bytes: number): string {
  if (bytes === 0) return "0";
  let value = bytes;
  let unit = 0;
  while (value > 8192 && unit < UNITS.length - 1) {
    value = value / 1024;
    if (value <= 8192) value = Math.round(value);
    unit++;
  }
  return `${value}${UNITS[unit]}`;
}

function cell(field: string, device: DeviceUsage, blockBytes: number): string {
  const { details, exclusiveBlocks } = device;
  switch (field) {
    case "DEV":
      return String(device.id);
    case "TRANSACTION":
      return String(details.transactionId);
    case "CREATE_TIME":
      return String(details.creationTime);
    case "SNAP_TIME":
      return String(details.snapshottedTime);
    default: {
      const [kind, unit] = field.split("_") as [string, string | undefined];
      const { mappedBlocks } = details;
      const blocks =
        kind === "MAPPED" ? mappedBlocks : kind === "EXCLUSIVE" ? exclusiveBlocks : mappedBlocks - exclusiveBlocks;
      if (unit === "BLOCKS") return String(blocks);
      if (unit === "SECTORS") return String((blocks * blockBytes) / SECTOR_BYTES);
      return unit === "BYTES" ? String(blocks * blockBytes) : scaledBytes(blocks * blockBytes);
    }
  }
}

/** The table. Throws `VDO_BAD_ARGUMENT` for an unknown field, `VDO_CORRUPT` at damage. */
export async function ls(metadata: BlockDevice, options: LsOptions = {}): Promise<string> {
  const fields = options.fields ?? LS_DEFAULT;
  const unknown = fields.find((field) => !(LS_FIELDS as readonly string[]).includes(field));
  if (unknown !== undefined) {
    const message = `Unknown field: ${unknown}; the fields are ${LS_FIELDS.join(", ")}`;
    throw new VdoError("VDO_BAD_ARGUMENT", message, { argument: "fields", value: unknown });
  }
  const pool = await PoolReader.open(metadata, options);
  const needsCount = fields.some((field) => /^(EXCLUSIVE|SHARED)/.test(field));
  const blockBytes = pool.superblock.dataBlockSectors * SECTOR_BYTES;
  const rows = options.noHeaders === true ? [] : [[...fields]];
  for (const device of await deviceUsage(pool, needsCount)) {
    rows.push(fields.map((field) => cell(field, device, blockBytes)));
  }
  const widths = fields.map((_field, column) => Math.max(0, ...rows.map((row) => (row[column] as string).length)));
  return rows.map((row) => `${row.map((text, i) => `${text.padStart(widths[i] as number)} `).join("")}\n`).join("");
}
