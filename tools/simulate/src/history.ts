/** A history: a small volume, a disk, and what is done to them, item by item. */
import type { TinyOptions } from "@vdo/kvdo/testing";

export interface Faults {
  readErrors: number;
  writeErrors: number;
  flushErrors: number;
  /** Blocks the disk has room for beyond those it holds; undefined: all. */
  room?: number | undefined;
}

/** Power cuts while the volume starts again: each number is a count of disk requests after which the next one comes. */
type Cuts = readonly number[];

export type Item =
  | { kind: "write"; lbn: number; contents: readonly number[]; fua: boolean }
  /** `sectors` sectors of 512 bytes from sector `sector` of block `lbn`. */
  | { kind: "partial"; lbn: number; sector: number; sectors: number; content: number; fua: boolean }
  | { kind: "zero"; lbn: number; count: number; unmap: boolean; fua: boolean }
  | { kind: "discard"; lbn: number; count: number; fua: boolean }
  | { kind: "read"; lbn: number; count: number }
  | { kind: "flush" }
  /** Waits until everything is answered. */
  | { kind: "settle" }
  /** Lets the disk complete requests for some turns. */
  | { kind: "turns"; count: number }
  | { kind: "compression"; on: boolean }
  | { kind: "faults"; faults: Faults }
  /** What a power cut at this moment would leave is looked at when the history comes to its next crash. */
  | { kind: "peek"; seed: number }
  /** The power will be cut after so many more requests. */
  | { kind: "arm"; after: number }
  | { kind: "suspend"; save: boolean; cut?: number }
  /** The presented size grows by so many blocks, or the disk and the volume by so many slabs. */
  | { kind: "growLogical"; blocks: number; cut?: number }
  | { kind: "growPhysical"; slabs: number; cut?: number }
  | { kind: "crash"; after: number; seed: number; cuts: Cuts }
  | { kind: "close"; cut?: number; seed: number; cuts: Cuts }
  /** Power cut, read-only mode, forced rebuild. */
  | { kind: "rebuild"; after: number; seed: number; cuts: Cuts; look: boolean };

export interface History {
  seed: number;
  tiny: TinyOptions;
  options: {
    compression: boolean;
    deduplication: boolean;
    blockMapCacheBlocks: number;
    maximumAge: number;
    dataVios: number;
    logicalBlockSize: 512 | 4096;
    maxDiscardBlocks: number;
    /** Freed blocks are discarded on the disk. */
    discardStorage?: { groupBlocks: number; delayMs: number };
  };
  disk: {
    batchMax: number;
    slowReads: number;
    slowWrites: number;
    slowFlushes: number;
    volatileCache: boolean;
    discardGarbage?: boolean;
  };
  /** The slabs hold what somebody left there before the volume was formatted; else zeros. */
  isUsedDisk: boolean;
  /** Milliseconds that pass in one turn of the disk. */
  turnMs: number;
  /** Requests in flight at most. */
  depth: number;
  /** Outcomes of each crash that are looked at beside the one the history goes on with. */
  forks: number;
  items: readonly Item[];
}

/** One line for people. */
export function describeItem(item: Item): string {
  const fua = "fua" in item && item.fua ? " FUA" : "";
  switch (item.kind) {
    case "write":
      return `write ${item.lbn}+${item.contents.length}: ${item.contents.slice(0, 12).join(" ")}${item.contents.length > 12 ? " …" : ""}${fua}`;
    case "partial":
      return `write sectors ${item.sector}+${item.sectors} of ${item.lbn}: ${item.content}${fua}`;
    case "zero":
      return `write zeroes ${item.lbn}+${item.count}${item.unmap ? ", may unmap" : ""}${fua}`;
    case "discard":
      return `discard ${item.lbn}+${item.count}${fua}`;
    case "read":
      return `read ${item.lbn}+${item.count}`;
    case "turns":
      return `${item.count} turns of the disk`;
    case "compression":
      return `compression ${item.on ? "on" : "off"}`;
    case "arm":
      return `the power will be cut after ${item.after} requests`;
    case "peek":
      return `what a crash would leave now (seed ${item.seed}) is started, too`;
    case "suspend":
      return `suspend ${item.save ? "with" : "without"} saving, resume${item.cut === undefined ? "" : `; cut after ${item.cut} requests`}`;
    case "growLogical":
      return `grow by ${item.blocks} logical blocks${item.cut === undefined ? "" : `; cut after ${item.cut} requests`}`;
    case "growPhysical":
      return `grow by ${item.slabs} slabs${item.cut === undefined ? "" : `; cut after ${item.cut} requests`}`;
    case "crash":
      return `crash after ${item.after} requests (seed ${item.seed}), recover${cutsText(item.cuts)}`;
    case "close":
      return `clean stop${item.cut === undefined ? "" : ` cut after ${item.cut} requests`} (seed ${item.seed}), start${cutsText(item.cuts)}`;
    case "rebuild":
      return `crash after ${item.after} requests (seed ${item.seed}), force a rebuild${cutsText(item.cuts)}`;
    case "faults":
      return `faults ${JSON.stringify(item.faults)}`;
    default:
      return item.kind;
  }
}

function cutsText(cuts: Cuts): string {
  return cuts.length === 0 ? "" : `, itself cut after ${cuts.join(", then ")} requests`;
}
