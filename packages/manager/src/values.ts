/**
 * The values that options take: type, range and error text of each, as in the legacy manager.
 *
 * A check returns the value or throws {@link VdoError} `VDO_BAD_ARGUMENT` whose message is the text that follows
 * `argument OPTION: ` on the command line.
 */
import { randomUUID } from "node:crypto";
import { VdoError } from "@vdo/base";
import { parseNbdUri } from "@vdo/nbd";
import { parseSize, type SizeStyle } from "./size.ts";

/** Reads one option's text; throws `VDO_BAD_ARGUMENT`. */
export type ValueCheck<T> = (text: string) => T;

const BLOCK = 4096n;
const M = 1024n ** 2n;
const G = 1024n ** 3n;
const T = 1024n ** 4n;

/** Largest logical size: 4096T. */
export const LOGICAL_SIZE_MAX = 4096n * T;

function refuse(value: unknown, message: string): never {
  throw new VdoError("VDO_BAD_ARGUMENT", message, { argument: "value", value });
}

/** A decimal integer as Python's `int()` takes it (blanks, a sign, single underscores), of `min` to `max`. */
export function integer(min: number, max: number): ValueCheck<number> {
  return (text) => {
    const trimmed = text.trim();
    const value = /^[+-]?\d+(_\d+)*$/.test(trimmed) ? Number(trimmed.replaceAll("_", "")) : Number.NaN;
    if (value >= min && value <= max) return value;
    return refuse(text, `must be an integer at least ${min} and less than or equal to ${max}`);
  };
}

function sized(text: string, style: SizeStyle): bigint {
  return parseSize(text, style) ?? refuse(text, `must be an ${style}-style size string`);
}

/** `--blockMapCacheSize`: bytes, at least 128M and less than 16T. */
export const blockMapCacheSize: ValueCheck<number> = (text) => {
  const bytes = sized(text, "SI");
  if (bytes >= 128n * M && bytes < 16n * T) return Number(bytes);
  return refuse(text, "must be at least 128M and less than 16T");
};

/** `--maxDiscardSize`: bytes, at least 4K and less than 4G, rounded down to whole blocks. */
export const maxDiscardSize: ValueCheck<number> = (text) => {
  const bytes = sized(text, "SI");
  if (bytes >= BLOCK && bytes < 4n * G) return Number(bytes - (bytes % BLOCK));
  return refuse(text, "must be at least 4K and less than 4G");
};

/** `--vdoLogicalSize`: bytes, at most 4096T, rounded down to whole blocks; 0 lets the formatter decide. */
export const logicalSize: ValueCheck<number> = (text) => {
  const bytes = sized(text, "LVM");
  if (bytes <= LOGICAL_SIZE_MAX) return Number(bytes - (bytes % BLOCK));
  return refuse(text, "must be less than or equal to 4P");
};

/** `--vdoPhysicalSize`: bytes, 4K to 256T, rounded down to whole blocks. */
export const physicalSize: ValueCheck<number> = (text) => {
  const bytes = sized(text, "LVM");
  if (bytes >= BLOCK && bytes <= 256n * T) return Number(bytes - (bytes % BLOCK));
  return refuse(text, "must be at least 4K and less than or equal to 256T");
};

/** `--skipHeader`: bytes, whole blocks. */
export const skipHeader: ValueCheck<number> = (text) => {
  const bytes = sized(text, "LVM");
  if (bytes % BLOCK === 0n && bytes <= 256n * M) return Number(bytes);
  return refuse(text, "must be a multiple of 4K and less than or equal to 256M");
};

/** `--vdoSlabSize`: bytes, a power of two of 128M to 32G. */
export const slabSize: ValueCheck<number> = (text) => {
  const bytes = sized(text, "LVM");
  if (bytes >= 128n * M && bytes <= 32n * G && (bytes & (bytes - 1n)) === 0n) return Number(bytes);
  return refuse(text, "must be a power of two between 128M and 32G");
};

/** `--indexMem` in GiB: exactly 0.25, 0.5, 0.75 (a comma counts as the point), or an integer of 1 to 1024. */
export const indexMemory: ValueCheck<number> = (text) => {
  const plain = text.trim().replace(",", ".");
  if (plain === "0.25" || plain === "0.5" || plain === "0.75") return Number(plain);
  if (/^[+-]?\d+(_\d+)*$/.test(plain)) {
    const value = Number(plain.replaceAll("_", ""));
    if (value >= 1 && value <= 1024) return value;
  }
  return refuse(
    text,
    "must be an integer at least 1 and less than or equal to 1024 or one of the special values of 0.25, 0.5, or 0.75",
  );
};

/** `--uuid`: lower case with dashes, from any usual form; the empty string asks for a new random one. */
export const uuid: ValueCheck<string> = (text) => {
  if (text === "") return "";
  const digits = text
    .replace("urn:", "")
    .replace("uuid:", "")
    .replace(/^[{}]+|[{}]+$/g, "")
    .replaceAll("-", "");
  if (!/^[0-9a-fA-F]{32}$/.test(digits)) return refuse(text, "must be a valid UUID or empty string");
  return dashed(digits.toLowerCase());
};

function dashed(hex: string): string {
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

/** Text form of the 16 bytes of a UUID. */
export function uuidText(bytes: Uint8Array): string {
  return dashed(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex"));
}

/** The 16 bytes of a UUID in text form; a new random one for the empty string. */
export function uuidBytes(text: string): Uint8Array {
  return new Uint8Array(Buffer.from((text === "" ? randomUUID() : text).replaceAll("-", ""), "hex"));
}

/** `.` and `..` are folders, and `.s` is where short socket names live in the runtime folder. */
const RESERVED_NAMES: readonly string[] = [".", "..", ".s"];

/** `--name`: characters `A-Za-z0-9#+.:@_-`, not starting with `-`, not a reserved folder name. */
export const volumeName: ValueCheck<string> = (text) => {
  if (!/^[A-Za-z0-9#+.:@_-]*$/.test(text)) {
    return refuse(text, `VDO device names may only contain characters in 'A-Za-z0-9#+.:@_-': bad value '${text}'`);
  }
  if (text.startsWith("-")) return refuse(text, `VDO device names may not start with '-': bad value '${text}'`);
  if (RESERVED_NAMES.includes(text)) {
    return refuse(text, `VDO device names may not be '.', '..' or '.s': bad value '${text}'`);
  }
  return text;
};

/** `--device`: an absolute path. */
export const absolutePath: ValueCheck<string> = (text) =>
  text.startsWith("/") ? text : refuse(text, "must be an absolute pathname");

/** `--device`: an absolute path, the number of a block device (`MAJOR:MINOR`), or an NBD URI. */
export const storageName: ValueCheck<string> = (text) => {
  if (/^\d+:\d+$/.test(text)) return text;
  if (!/^nbds?(\+unix)?:/i.test(text)) return absolutePath(text);
  parseNbdUri(text);
  return text;
};

/** Whole seconds of 0 to 10 days; 0 means no limit. */
export const startTimeout: ValueCheck<number> = integer(0, 864_000);

/** `--statusPage`: `disabled`, `enabled` (on any free port), or a port of the loopback. */
export const statusPage: ValueCheck<string> = (text) => {
  if (text === "disabled" || text === "enabled") return text;
  if (/^[1-9]\d{0,4}$/.test(text) && Number(text) <= 65535) return text;
  return refuse(text, "must be 'enabled', 'disabled' or a port from 1 to 65535");
};

export const ENABLED_CHOICES = ["disabled", "enabled"] as const;
export const WRITE_POLICIES = ["async", "async-unsafe", "sync", "auto"] as const;
export const LOG_LEVELS = ["critical", "error", "warning", "notice", "info", "debug"] as const;
export const ATTACH_CHOICES = ["auto", "nbd", "fuse", "none"] as const;

export type Enabled = (typeof ENABLED_CHOICES)[number];
export type WritePolicy = (typeof WRITE_POLICIES)[number];
export type LogLevel = (typeof LOG_LEVELS)[number];
/** `enabled`, `disabled`, or a port in decimal. */
export type StatusPageChoice = string;
export type AttachChoice = (typeof ATTACH_CHOICES)[number];
