/** Values on the command line of `vdo ploop`, and the exit statuses of its failures. */
import { isVdoError, VdoError } from "@vdo/base";
import { isGuid } from "@vdo/ploop";

const FACTORS: { readonly [suffix: string]: number } = { "": 1, K: 2, M: 2 ** 11, G: 2 ** 21, T: 2 ** 31 };
const SECTORS_MAX = 0xffff_ffff;

/** Sectors of `10G`, `0x800`, `33000` (sectors), … Throws `VDO_BAD_ARGUMENT`. */
export function sectorsOf(text: string): number {
  const match = /^(0x[\da-f]+|\d+)([KMGT]?)$/i.exec(text);
  const digits = match?.[1] ?? "";
  const number = /^0[0-7]+$/.test(digits) ? Number.parseInt(digits, 8) : Number(digits);
  const sectors = number * (FACTORS[(match?.[2] ?? "").toUpperCase()] as number);
  const limit = SECTORS_MAX * 512;
  if (match === null || !Number.isSafeInteger(sectors) || sectors <= 0 || sectors >= limit) {
    throw new VdoError("VDO_BAD_ARGUMENT", `An incorrect size: ${JSON.stringify(text)}`, {
      argument: "size",
      value: text,
    });
  }
  return sectors;
}

/** A GUID in braces, of one with or without. */
export function guidOf(text: string): string {
  const guid = (text.startsWith("{") ? text : `{${text}}`).toLowerCase();
  if (!isGuid(guid)) {
    throw new VdoError("VDO_BAD_ARGUMENT", `Incorrect uuid: ${JSON.stringify(text)}`, {
      argument: "uuid",
      value: text,
    });
  }
  return guid;
}

/** A UUID without braces, of one with or without. */
export function uuidOf(text: string): string {
  return guidOf(text).slice(1, -1);
}

/** The original's exit statuses. */
export function ploopStatusOf(error: unknown): number {
  if (isVdoError(error, "VDO_PLOOP_REFUSED")) {
    const { errno, operation } = error.data;
    if (errno === "ENOENT" && operation.startsWith("snapshot")) return 43;
    return errno === "EEXIST" || errno === "EBUSY" ? 17 : 38;
  }
  if (isVdoError(error, "VDO_PLOOP_DIRTY")) return 37;
  if (isVdoError(error, "VDO_CORRUPT")) return 11;
  if (isVdoError(error, "VDO_BAD_ARGUMENT")) return 38;
  if (isVdoError(error, "VDO_NO_SPACE")) return 7;
  if (isVdoError(error, "VDO_IO")) return { open: 4, read: 6, write: 7, flush: 16, discard: 7 }[error.data.operation];
  return 12;
}
