/** One pool's entry in the configuration file, under `pools`: its keys, types and defaults, as data. */
import { type DiscardMode, type PoolFeatures, SECTOR_BYTES } from "@vdo/thin";
import { commandError } from "../errors.ts";
import { parseSize, renderSize } from "../size.ts";
import type { Enabled } from "../values.ts";

/** What a pool itself does not store of a thin device. */
export interface ThinVolumeSettings {
  /** Virtual size in bytes; 0: that of the pool's settings. */
  size: number;
  /** File, device or NBD URI that is read where nothing is mapped; empty for none. */
  origin: string;
}

/** Settings of one pool. A pool lies on `device`, or on `metadataDevice` and `dataDevice`; what is not used is empty. */
export interface PoolSettings {
  name: string;
  device: string;
  metadataDevice: string;
  dataDevice: string;
  blockZeroing: Enabled;
  discard: DiscardMode;
  errorIfNoSpace: Enabled;
  /** Data blocks. */
  lowWaterMark: number;
  /** Seconds that a full pool queues writes; 0 is for ever. */
  noSpaceTimeout: number;
  readOnly: Enabled;
  /** Virtual size, in bytes, of devices that have none of their own; 0: that of the data. */
  size: number;
  /** By device id. */
  volumes: Readonly<Record<string, ThinVolumeSettings>>;
  /** Keys that this version does not know. */
  others: Readonly<Record<string, unknown>>;
}

type Key = Exclude<keyof PoolSettings, "volumes" | "others">;
type Kind = "text" | "enabled" | "discard" | "integer" | "size";

const KEYS: { readonly [K in Key]: readonly [kind: Kind, fallback: PoolSettings[K]] } = {
  blockZeroing: ["enabled", "enabled"],
  dataDevice: ["text", ""],
  device: ["text", ""],
  discard: ["discard", "passdown"],
  errorIfNoSpace: ["enabled", "disabled"],
  lowWaterMark: ["integer", 0],
  metadataDevice: ["text", ""],
  name: ["text", ""],
  noSpaceTimeout: ["integer", 60],
  readOnly: ["enabled", "disabled"],
  size: ["size", 0],
};

export const DISCARD_MODES: readonly DiscardMode[] = ["passdown", "no_passdown", "ignore"];

/** Where a pool lies. */
export type PoolPlace = { device: string } | { metadata: string; data: string };

export function placeOf({ device, metadataDevice, dataDevice }: PoolSettings): PoolPlace {
  return device === "" ? { metadata: metadataDevice, data: dataDevice } : { device };
}

/** Settings with every default. */
export function defaultPool(name: string, place: PoolPlace): PoolSettings {
  const settings: Record<string, unknown> = { volumes: {}, others: {} };
  for (const [key, [, fallback]] of Object.entries(KEYS)) settings[key] = fallback;
  const where = "device" in place ? place : { metadataDevice: place.metadata, dataDevice: place.data };
  return { ...(settings as unknown as PoolSettings), ...where, name };
}

/** Features as the pool takes them. */
export function featuresOf(settings: PoolSettings): PoolFeatures {
  return {
    skipBlockZeroing: settings.blockZeroing === "disabled",
    discard: settings.discard,
    readOnly: settings.readOnly === "enabled",
    errorIfNoSpace: settings.errorIfNoSpace === "enabled",
  };
}

/** Sectors of the device's virtual size; undefined when nothing says it. */
export function sectorsOf({ volumes, size }: PoolSettings, id: number): number | undefined {
  const bytes = volumes[String(id)]?.size || size;
  return bytes === 0 ? undefined : Math.ceil(bytes / SECTOR_BYTES);
}

/** Settings from the plain values of an entry. Throws `VDO_WRONG_STATE` for a value of the wrong kind. */
export function poolFromPlain(entry: Readonly<Record<string, unknown>>, pool: string): PoolSettings {
  const settings = defaultPool(pool, { device: "" }) as unknown as Record<string, unknown>;
  const others: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(entry)) {
    if (key === "volumes") settings["volumes"] = volumesFromPlain(value, pool);
    else if (!Object.hasOwn(KEYS, key)) others[key] = value;
    else settings[key] = decode(KEYS[key as Key][0], value) ?? refuse(pool, key, value);
  }
  const { device, metadataDevice, dataDevice } = settings as unknown as PoolSettings;
  const isPlaced = (device !== "") !== (metadataDevice !== "" && dataDevice !== "");
  if (!isPlaced) refuse(pool, "device", device);
  return { ...(settings as unknown as PoolSettings), others };
}

function volumesFromPlain(value: unknown, pool: string): Record<string, ThinVolumeSettings> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return refuse(pool, "volumes", value);
  const volumes: Record<string, ThinVolumeSettings> = {};
  for (const [id, entry] of Object.entries(value as Record<string, unknown>)) {
    if (!/^\d+$/.test(id) || typeof entry !== "object" || entry === null) refuse(pool, `volumes ${id}`, entry);
    const { size = "0M", origin = "" } = entry as Record<string, unknown>;
    const bytes = decode("size", size) ?? refuse(pool, `volumes ${id} size`, size);
    if (typeof origin !== "string") refuse(pool, `volumes ${id} origin`, origin);
    volumes[id] = { size: bytes as number, origin: origin as string };
  }
  return volumes;
}

function refuse(pool: string, key: string, value: unknown): never {
  const text = `Not a valid configuration file (pool ${pool}: ${key}: ${JSON.stringify(value)})`;
  throw commandError("VDO_WRONG_STATE", text, pool);
}

/** Null for what the key cannot have. */
function decode(kind: Kind, value: unknown): unknown {
  if (kind === "text") return typeof value === "string" || typeof value === "number" ? String(value) : null;
  if (kind === "enabled") return value === "enabled" || value === "disabled" ? value : null;
  if (kind === "discard") return DISCARD_MODES.includes(value as DiscardMode) ? value : null;
  if (kind === "integer") return Number.isSafeInteger(value) && (value as number) >= 0 ? value : null;
  const bytes = typeof value === "string" || typeof value === "number" ? parseSize(String(value), "LVM") : undefined;
  return bytes === undefined || bytes > BigInt(Number.MAX_SAFE_INTEGER) ? null : Number(bytes);
}

/** The plain values that are written to the file, unknown keys included. */
export function poolToPlain(settings: PoolSettings): Record<string, unknown> {
  const plain: Record<string, unknown> = { ...settings.others };
  for (const [key, [kind]] of Object.entries(KEYS)) {
    const value = settings[key as Key];
    if (value === "") continue;
    plain[key] = kind === "size" ? renderSize(value as number) : value;
  }
  const volumes: Record<string, unknown> = {};
  for (const [id, { size, origin }] of Object.entries(settings.volumes)) {
    volumes[id] = { size: renderSize(size), ...(origin === "" ? {} : { origin }) };
  }
  plain["volumes"] = volumes;
  return plain;
}
