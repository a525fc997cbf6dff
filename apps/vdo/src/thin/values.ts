/** Values on the command line of `vdo thin`. */
import { VdoError } from "@vdo/base";

/** Powers of 1024 by suffix; `s` is a sector. */
const SUFFIXES = "kmgtpe";

/** Bytes of a size: a number with b, s, K, M, G, T, P or E; sectors without. Throws `VDO_BAD_ARGUMENT`. */
export function bytesOf(text: string): number {
  const match = /^(\d+)([bskmgtpe]?)$/i.exec(text);
  const suffix = (match?.[2] ?? "").toLowerCase();
  const unit = suffix === "b" ? 1 : suffix === "" || suffix === "s" ? 512 : 1024 ** (SUFFIXES.indexOf(suffix) + 1);
  const bytes = match === null ? Number.NaN : Number(match[1]) * unit;
  if (Number.isSafeInteger(bytes)) return bytes;
  throw new VdoError("VDO_BAD_ARGUMENT", `${text} is not a size: a number with b, s, K, M, G, T, P or E, or sectors`, {
    argument: "size",
    value: text,
  });
}

/** A number of 0 and up. Throws `VDO_BAD_ARGUMENT`. */
export function numberOf(text: string, what: string): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(value)) return value;
  throw new VdoError("VDO_BAD_ARGUMENT", `${what} ${text} is not a number`, { argument: what, value: text });
}

/** A size in a unit of `bskmgtpe`, as thin_metadata_size writes it: two places behind the point where it is not whole. */
export function inUnit(bytes: number, unit: string): string {
  const size = unit === "b" ? 1 : unit === "s" ? 512 : 1024 ** (SUFFIXES.indexOf(unit) + 1);
  const value = bytes / size;
  return Number.isInteger(value) ? String(value) : value.toFixed(2);
}

/** A size for people: the largest unit in which it is at least 1, two places behind the point where it is not whole. */
export function sizeText(bytes: number): string {
  const unit = [...SUFFIXES].reverse().find((one) => bytes >= 1024 ** (SUFFIXES.indexOf(one) + 1));
  return unit === undefined ? `${bytes} B` : `${inUnit(bytes, unit)} ${unit.toUpperCase()}iB`;
}
