/**
 * One volume's entry in the configuration file: its keys, types and defaults, as data.
 *
 * The keys and their forms are those of the legacy manager (configuration version 538380551), plus `attach`. Keys that are
 * not in the table are kept as they were read and written back, so newer and older programs do not destroy each other's.
 */
import { commandError } from "../errors.ts";
import { parseSize, renderSize } from "../size.ts";
import type { AttachChoice, Enabled, StatusPageChoice, WritePolicy } from "../values.ts";

/** State of the last multi-step operation; anything but `finished` and `unknown` means that it was interrupted. */
export type OperationState =
  | "unknown"
  | "finished"
  | "beginCreate"
  | "beginImport"
  | "beginGrowLogical"
  | "beginGrowPhysical"
  | "beginRunningSetWritePolicy";

/** Settings of one volume. Sizes in bytes, `indexMemory` in GiB. */
export interface VolumeSettings {
  _operationState: string;
  ackThreads: number;
  activated: Enabled;
  /** How the volume becomes a device when it starts; undefined in files of the legacy manager. */
  attach: AttachChoice | undefined;
  bioRotationInterval: number;
  bioThreads: number;
  blockMapCacheSize: number;
  blockMapPeriod: number;
  compression: Enabled;
  cpuThreads: number;
  deduplication: Enabled;
  device: string;
  /** Whether freed blocks are discarded on the storage; undefined for not. */
  discardStorage: Enabled | undefined;
  hashZoneThreads: number;
  indexCfreq: number;
  indexMemory: number;
  indexSparse: Enabled;
  indexThreads: number;
  logicalBlockSize: number;
  logicalSize: number;
  logicalThreads: number;
  maxDiscardSize: number;
  name: string;
  /** Command that is run when the volume fills up; undefined or empty for none. */
  onFull: string | undefined;
  physicalSize: number;
  physicalThreads: number;
  /** Bytes at the beginning and at the end that users do not see: LVM's header, and the room beside it. */
  skipHeader: number | undefined;
  slabSize: number;
  /** The page in which a running volume shows itself; undefined in files of the legacy manager, and then disabled. */
  statusPage: StatusPageChoice | undefined;
  /** Null: not given; empty: a random one was asked for. Not the volume's UUID in general. */
  uuid: string | null;
  writePolicy: WritePolicy;
  /** Keys that this version does not know. */
  others: Readonly<Record<string, unknown>>;
}

type Kind = "enabled" | "integer" | "number" | "size" | "text" | "nullable" | "optional";
type Key = Exclude<keyof VolumeSettings, "others">;

const M = 1024 ** 2;

/** Kind and default of every key; the defaults are those of the options of `create`. */
const KEYS: { readonly [K in Key]: readonly [kind: Kind, fallback: VolumeSettings[K]] } = {
  _operationState: ["text", "unknown"],
  ackThreads: ["integer", 1],
  activated: ["enabled", "enabled"],
  attach: ["optional", undefined],
  bioRotationInterval: ["integer", 64],
  bioThreads: ["integer", 4],
  blockMapCacheSize: ["size", 128 * M],
  blockMapPeriod: ["integer", 16380],
  compression: ["enabled", "enabled"],
  cpuThreads: ["integer", 2],
  deduplication: ["enabled", "enabled"],
  device: ["text", ""],
  discardStorage: ["optional", undefined],
  hashZoneThreads: ["integer", 1],
  indexCfreq: ["integer", 0],
  indexMemory: ["number", 0.25],
  indexSparse: ["enabled", "disabled"],
  indexThreads: ["integer", 0],
  logicalBlockSize: ["integer", 4096],
  logicalSize: ["size", 0],
  logicalThreads: ["integer", 1],
  maxDiscardSize: ["size", 4096],
  name: ["text", ""],
  onFull: ["optional", undefined],
  physicalSize: ["size", 0],
  physicalThreads: ["integer", 1],
  skipHeader: ["size", undefined],
  slabSize: ["size", 2048 * M],
  statusPage: ["optional", undefined],
  uuid: ["nullable", null],
  writePolicy: ["text", "auto"],
};

/** Settings with every default; `name` and `device` as given. */
export function defaultSettings(name: string, device: string): VolumeSettings {
  const settings: Record<string, unknown> = { others: {} };
  for (const [key, [, fallback]] of Object.entries(KEYS)) settings[key] = fallback;
  return { ...(settings as unknown as VolumeSettings), name, device };
}

/**
 * Settings from the plain values of a configuration entry. Missing keys get their defaults. Throws `VDO_WRONG_STATE` for a
 * value of the wrong kind, naming volume and key.
 */
export function settingsFromPlain(entry: Readonly<Record<string, unknown>>, volume: string): VolumeSettings {
  const settings = defaultSettings(volume, "") as unknown as Record<string, unknown>;
  const others: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(entry)) {
    const known = Object.hasOwn(KEYS, key) ? KEYS[key as Key] : undefined;
    if (known === undefined) others[key] = value;
    else settings[key] = decode(known[0], value, known[1]) ?? refuse(volume, key, value);
  }
  if (Object.hasOwn(entry, "uuid") && entry["uuid"] === null) settings["uuid"] = null;
  return { ...(settings as unknown as VolumeSettings), others };
}

function refuse(volume: string, key: string, value: unknown): never {
  const text = `Not a valid configuration file (volume ${volume}: ${key}: ${JSON.stringify(value)})`;
  throw commandError("VDO_WRONG_STATE", text, volume);
}

/** The value of one key, or `null` when it is of no form that the key can have. */
function decode(kind: Kind, value: unknown, fallback: unknown): unknown {
  if (kind === "enabled") return value === "disabled" || value === false ? "disabled" : "enabled";
  if (kind === "nullable") return typeof value === "string" ? value : (value ?? "");
  if (kind === "size") return decodeSize(value);
  if (kind === "integer" || kind === "number") {
    const number = typeof value === "string" ? Number(value) : value;
    if (typeof number !== "number" || !Number.isFinite(number) || number < 0) return null;
    return kind === "number" || Number.isInteger(number) ? number : null;
  }
  if (value === null) return fallback ?? null;
  return typeof value === "string" || typeof value === "number" ? String(value) : null;
}

function decodeSize(value: unknown): number | null {
  const bytes = typeof value === "string" || typeof value === "number" ? parseSize(String(value), "LVM") : undefined;
  return bytes === undefined || bytes > BigInt(Number.MAX_SAFE_INTEGER) ? null : Number(bytes);
}

/** The plain values that are written to the file, unknown keys included. */
export function settingsToPlain(settings: VolumeSettings): Record<string, unknown> {
  const plain: Record<string, unknown> = { ...settings.others };
  for (const [key, [kind]] of Object.entries(KEYS)) {
    const value = settings[key as Key];
    if (value === undefined) continue;
    plain[key] = kind === "size" ? renderSize(value as number) : value;
  }
  return plain;
}
