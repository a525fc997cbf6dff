/** A history of a thin pool: drawn from its seed, all of it, before it is played. */
import { Random } from "@vdo/base";

/** Blocks of 4096 bytes of a thin device. */
export const DEVICE_BLOCKS = 96;
/** Thin devices at a time. */
const DEVICES_MAX = 5;
const LIVES_MAX = 3;
const ITEMS_MAX = 30;

/** `device` chooses among those that are there, whatever their number; the rest is in blocks of 4096 bytes. */
export type PoolItem =
  | { kind: "write"; device: number; start: number; count: number; fua: boolean }
  /** Two at once, in both halves of the device. */
  | { kind: "writes"; device: number; start: number; count: number }
  | { kind: "discard"; device: number; start: number; count: number }
  | { kind: "zero"; device: number; start: number; count: number }
  | { kind: "flush"; device: number }
  | { kind: "read"; device: number }
  | { kind: "snapshot"; device: number }
  | { kind: "delete"; device: number }
  | { kind: "metadataSnapshot" }
  | { kind: "transaction" }
  /** The pool's timers fire: it commits by itself. */
  | { kind: "timer" }
  | { kind: "grow" }
  | { kind: "reload"; passdown: boolean; lowWater: number }
  | { kind: "reopen" }
  /** All at once: writes, zeroing and discards on a device each, reads of all devices meanwhile, and a commit. */
  | { kind: "together"; items: PoolItem[]; reads: number };

/** From one opening of the pool to the next power cut. */
export interface PoolLife {
  items: PoolItem[];
  /** Requests of the disk until the cut; a life that ends before is cut at its end. */
  cutAfter: number;
  /** The metadata disk loses its power first; else the data disk. */
  metadataFirst: boolean;
}

export interface PoolShape {
  blockSectors: number;
  metadataBlocks: number;
  /** Data blocks of 64 KiB of the disk; few enough to become full in some histories. */
  dataBlocks: number;
  /** Metadata and data on one disk, with a label. */
  oneDevice: boolean;
  /** The data disk offers discards. */
  discards: boolean;
  /** Odds that a write of metadata fails. */
  metadataErrors: number;
  dataErrors: number;
  /** The device over which thin devices lie has content. */
  hasOrigin: boolean;
  /** Odds that a read of data is slow: later requests overtake it. */
  slowReads: number;
}

export interface PoolHistory {
  seed: number;
  shape: PoolShape;
  lives: PoolLife[];
}

export function drawPoolHistory(seed: number): PoolHistory {
  const random = new Random(seed);
  const isFull = random.chance(0.15);
  const shape: PoolShape = {
    blockSectors: random.pick([128, 128, 128, 256]),
    metadataBlocks: random.pick([400, 400, 1024, 90]),
    dataBlocks: isFull ? 14 + random.below(20) : 64,
    oneDevice: random.chance(0.25),
    discards: random.chance(0.8),
    metadataErrors: random.chance(0.1) ? 0.02 : 0,
    dataErrors: random.chance(0.1) ? 0.01 : 0,
    hasOrigin: random.chance(0.2),
    slowReads: random.chance(0.3) ? 0.5 : 0,
  };
  const lives = Array.from({ length: 1 + random.below(LIVES_MAX) }, () => drawLife(random));
  return { seed, shape, lives };
}

function drawLife(random: Random): PoolLife {
  const items = Array.from({ length: 1 + random.below(ITEMS_MAX) }, () => drawItem(random));
  return { items, cutAfter: 1 + random.below(random.chance(0.2) ? 400 : 60), metadataFirst: random.chance(0.5) };
}

function drawItem(random: Random): PoolItem {
  if (!random.chance(0.15)) return drawSingle(random);
  const items: PoolItem[] = [];
  while (items.length < 4) {
    const item = drawSingle(random);
    if (["write", "discard", "zero", "timer"].includes(item.kind)) items.push(item);
  }
  return { kind: "together", items, reads: random.below(3) };
}

function drawSingle(random: Random): PoolItem {
  const device = random.below(DEVICES_MAX * 12);
  const range = (most: number): { start: number; count: number } => {
    const count = 1 + random.below(most);
    return { start: random.below(DEVICE_BLOCKS - count + 1), count };
  };
  const dice = random.below(44);
  if (dice < 12) return { kind: "writes", device, ...range(17) };
  if (dice < 19) return { kind: "write", device, ...range(34), fua: random.chance(0.3) };
  if (dice < 22) return { kind: "discard", device, ...range(48) };
  if (dice < 24) return { kind: "zero", device, ...range(48) };
  if (dice < 29) return { kind: "flush", device };
  if (dice < 31) return { kind: "read", device };
  if (dice < 35) return { kind: "snapshot", device };
  if (dice < 37) return { kind: "delete", device };
  if (dice < 38) return { kind: "metadataSnapshot" };
  if (dice < 39) return { kind: "transaction" };
  if (dice < 41) return { kind: "timer" };
  if (dice < 42) return { kind: "grow" };
  if (dice < 43) return { kind: "reload", passdown: random.chance(0.5), lowWater: random.below(10) };
  return { kind: "reopen" };
}

/** One line for people. */
export function describePoolItem(item: PoolItem): string {
  if (item.kind === "together") {
    return `together: ${item.items.map(describePoolItem).join("; ")}; ${item.reads} reads of each`;
  }
  const { kind, ...rest } = item;
  const words = Object.entries(rest).map(([key, value]) => `${key} ${String(value)}`);
  return words.length === 0 ? kind : `${kind}: ${words.join(", ")}`;
}
