/**
 * What blocks hold, as numbers. Content 0 is zeros; any other number names 4096 bytes, of which each 512-byte sector is
 * its own, so that a block put together from the sectors of several contents can be told from all of them.
 */
import { Random } from "@vdo/base";

export const BLOCK_BYTES = 4096;
export const SECTOR_BYTES = 512;
export const SECTORS = BLOCK_BYTES / SECTOR_BYTES;
/** Blocks kept: 8 MiB. */
const KEPT_MAX = 2048;

/** A whole block of one content, or the content of each of its sectors. */
export type Value = number | readonly number[];

const kept = new Map<number, Uint8Array>();

/** The bytes of content `number`; not to be changed. A third of the contents compress well, a third a little. */
export function contentBytes(number: number): Uint8Array {
  const known = kept.get(number);
  if (known !== undefined) return known;
  const bytes = new Uint8Array(BLOCK_BYTES);
  if (number !== 0) {
    const random = new Random(number);
    const length = number % 3 === 0 ? 24 : number % 3 === 1 ? 200 : SECTOR_BYTES;
    for (let at = 0; at < BLOCK_BYTES; at += SECTOR_BYTES) random.fill(bytes.subarray(at, at + length));
  }
  if (kept.size >= KEPT_MAX) kept.clear();
  kept.set(number, bytes);
  return bytes;
}

/** Writes the bytes of `value` to `target`. */
export function render(value: Value, target: Uint8Array): void {
  if (typeof value === "number") {
    target.set(contentBytes(value));
    return;
  }
  for (let sector = 0; sector < SECTORS; sector++) {
    const at = sector * SECTOR_BYTES;
    target.set(contentBytes(value[sector] as number).subarray(at, at + SECTOR_BYTES), at);
  }
}

/** The content of sector `sector` of `value`. */
export function sectorOf(value: Value, sector: number): number {
  return typeof value === "number" ? value : (value[sector] as number);
}

/** True when `bytes` are those of `value`. */
export function matches(value: Value, bytes: Uint8Array): boolean {
  if (typeof value === "number") return Buffer.compare(contentBytes(value), bytes) === 0;
  for (let sector = 0; sector < SECTORS; sector++) {
    const at = sector * SECTOR_BYTES;
    const expected = contentBytes(value[sector] as number).subarray(at, at + SECTOR_BYTES);
    if (Buffer.compare(expected, bytes.subarray(at, at + SECTOR_BYTES)) !== 0) return false;
  }
  return true;
}

/** What `bytes` seem to be, sector by sector, given the contents that were ever used. */
export function recognise(bytes: Uint8Array, contents: Iterable<number>): string {
  const known = [...new Set([0, ...contents])];
  const sectors: string[] = [];
  for (let at = 0; at < BLOCK_BYTES; at += SECTOR_BYTES) {
    const sector = bytes.subarray(at, at + SECTOR_BYTES);
    const found = known.find((n) => Buffer.compare(contentBytes(n).subarray(at, at + SECTOR_BYTES), sector) === 0);
    sectors.push(found === undefined ? "?" : String(found));
  }
  return sectors.every((one) => one === sectors[0]) ? (sectors[0] as string) : `[${sectors.join(" ")}]`;
}
