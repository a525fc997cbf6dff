/**
 * Size strings as the legacy manager reads and prints them: `NUMBER [SUFFIX]`, powers of 1024, megabytes without a suffix.
 *
 * Exact integer arithmetic: a decimal number times a factor, truncated toward zero, whatever its length (the original used
 * 64-bit floats and lost bytes above 2^53).
 */

/** Which suffixes are taken: LVM's set also has `s`, sectors of 512 bytes. */
export type SizeStyle = "LVM" | "SI";

const K = 1024n;
const FACTORS: { readonly [suffix: string]: bigint } = {
  s: 512n,
  b: 1n,
  k: K,
  m: K ** 2n,
  g: K ** 3n,
  t: K ** 4n,
  p: K ** 5n,
  e: K ** 6n,
};

/** Longest exponent taken; anything larger is no size of this universe and would only make a long number. */
const EXPONENT_MAX = 40;

const PATTERN = /^\s*\+?(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d+))?\s*([sbkmgtpeSBKMGTPE]?)\s*$/;

/** Bytes of a size string, truncated toward zero; `undefined` when it is none (negative, empty, unknown suffix, …). */
export function parseSize(text: string, style: SizeStyle): bigint | undefined {
  const match = PATTERN.exec(text);
  if (match === null) return undefined;
  const [, whole = "", fraction = "", exponentText = "0", letter = ""] = match;
  if (whole === "" && fraction === "") return undefined;
  const suffix = letter.toLowerCase();
  if (style === "SI" && (suffix === "s" || !/[0-9A-Za-z]$/.test(text))) return undefined;
  const exponent = Number(exponentText) - fraction.length;
  if (Math.abs(exponent) > EXPONENT_MAX) return undefined;
  const product = BigInt(whole + fraction) * (FACTORS[suffix === "" ? "m" : suffix] as bigint);
  return exponent >= 0 ? product * 10n ** BigInt(exponent) : product / 10n ** BigInt(-exponent);
}

/** `0M`, or the largest unit of E P T G M K B that divides `bytes` exactly: 1536M, 10G, 512B. */
export function renderSize(bytes: bigint | number): string {
  const value = BigInt(bytes);
  if (value === 0n) return "0M";
  for (const letter of ["e", "p", "t", "g", "m", "k"]) {
    const factor = FACTORS[letter] as bigint;
    if (value % factor === 0n) return `${value / factor}${letter.toUpperCase()}`;
  }
  return `${value}B`;
}

/** Sectors of 512 bytes, rounded up. */
export function toSectors(bytes: bigint): bigint {
  return (bytes + 511n) / 512n;
}

/** Blocks of 4096 bytes, rounded down. */
export function toBlocks(bytes: bigint): bigint {
  return bytes / 4096n;
}

/** The formatter's own rendering: two decimals and a spaced unit, `5.28 GB`; bytes as an integer. Single precision. */
export function renderFormatterSize(bytes: number): string {
  const units = ["B", "KB", "MB", "GB", "TB", "PB"];
  let floored = bytes;
  let exact = bytes;
  let unit = 0;
  while (floored >= 1024 && unit < units.length - 1) {
    exact = floored / 1024;
    floored = Math.floor(exact);
    unit++;
  }
  return unit === 0 ? `${bytes} B` : `${Math.fround(exact).toFixed(2)} ${units[unit]}`;
}
