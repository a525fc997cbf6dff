/** Values of the options of the offline tools, for the tools as subcommands and under their own names. */
import { indexMemory, parseSize, type ValueCheck } from "@vdo/manager";

/** A number as C's `strtoull` reads it with base 0: decimal, hexadecimal or octal. */
export const number: ValueCheck<number> = (text) => {
  const value = /^0[0-7]+$/.test(text)
    ? Number.parseInt(text, 8)
    : /^(0[xX][0-9a-fA-F]+|\d+)$/.test(text)
      ? Number(text)
      : -1;
  if (value < 0 || !Number.isSafeInteger(value)) throw new Error("must be an unsigned number");
  return value;
};

/** The formatter's sizes: an unsigned number and a suffix of B, K, M, G, T or P; megabytes without one. */
export const formatterSize: ValueCheck<number> = (text) => {
  const [, digits = "", suffix = ""] = /^\s*(0[xX][0-9a-fA-F]+|\d+)([bkmgtpBKMGTP]?)$/.exec(text) ?? [];
  const bytes = digits === "" ? undefined : parseSize(`${number(digits)}${suffix}`, "LVM");
  if (bytes === undefined || bytes > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new Error("must be a whole number with a suffix of B, K, M, G, T or P, or none for megabytes");
  }
  return Number(bytes);
};

export const slabBits: ValueCheck<number> = (text) => {
  const bits = /^(0[xX][0-9a-fA-F]+|\d+)$/.test(text) ? number(text) : 0;
  if (bits < 13 || bits > 23) throw new Error("invalid slab bits, must be 13-23");
  return bits;
};

/** As `--indexMem`, and `0.50`, which LVM sends. */
export const memory: ValueCheck<number> = (text) => (text === "0.50" ? 0.5 : indexMemory(text));
