/** Sizes as thin_metadata_size 0.9 reads and writes them: small letters are powers of 1024, large ones of 1000. */
import { VdoError } from "@vdo/base";

const LETTERS = "kmgtpezy";
const PREFIXES = ["kilo", "mega", "giga", "tera", "peta", "exa", "zetta", "yotta"];
const BINARY_PREFIXES = ["kibi", "mebi", "gibi", "tebi", "pebi", "exbi", "zebi", "yobi"];

/** Letters of units. */
export const ESTIMATE_UNITS: readonly string[] = [
  "b",
  "s",
  ...[...LETTERS].flatMap((letter) => [letter, letter.toUpperCase()]),
];

function bytesIn(unit: string): number {
  if (unit === "b") return 1;
  if (unit === "s") return 512;
  const power = LETTERS.indexOf(unit.toLowerCase()) + 1;
  return (unit === unit.toLowerCase() ? 1024 : 1000) ** power;
}

/** `kibibytes`, `megabytes`, `sectors`, `bytes`. */
export function unitName(unit: string): string {
  if (unit === "b") return "bytes";
  if (unit === "s") return "sectors";
  const at = LETTERS.indexOf(unit.toLowerCase());
  return `${(unit === unit.toLowerCase() ? BINARY_PREFIXES : PREFIXES)[at]}bytes`;
}

export interface EstimateSize {
  bytes: number;
  /** As the answer repeats it: `64kibibytes`. */
  text: string;
}

/** A number with a unit; `fallback` is the unit of one without, and is not repeated where it is bytes. Throws `VDO_BAD_ARGUMENT`. */
export function estimateSize(text: string, fallback: "b" | "s"): EstimateSize {
  const match = /^(\d+)([a-zA-Z]?)$/.exec(text);
  const unit = match?.[2] || fallback;
  const bytes = match !== null && ESTIMATE_UNITS.includes(unit) ? Number(match[1]) * bytesIn(unit) : Number.NaN;
  if (Number.isSafeInteger(bytes)) {
    const name = match?.[2] === "" && fallback === "b" ? "" : unitName(unit);
    return { bytes, text: `${match?.[1]}${name}` };
  }
  throw new VdoError("VDO_BAD_ARGUMENT", `${text} is no size: a number with one of ${ESTIMATE_UNITS.join(" ")}`, {
    argument: "size",
    value: text,
  });
}

/** Two places behind the point where it is not whole. */
export function inEstimateUnit(bytes: number, unit: string): string {
  const text = (bytes / bytesIn(unit)).toFixed(2);
  return text.endsWith(".00") ? text.slice(0, -3) : text;
}
