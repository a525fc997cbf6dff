/** What a volume is opened with, and what it reports of itself. */
import type { Clock } from "@vdo/base";
import type { IndexState } from "../dedupe/index-manager.ts";

export type RecoveryPhase = "journal" | "block map" | "slab journals" | "slabs";

/**
 * Why a start has more to do than to open the volume: it was not stopped cleanly; a rebuild was asked for; or it is in
 * read-only mode, and what its journal says is applied to what is read, in memory.
 */
export type RecoveryCause = "crash" | "rebuild" | "read-only";

export type VolumeEvent =
  | { type: "readOnly"; error: unknown }
  | { type: "full" }
  /** A recovery or rebuild goes on: so much of this phase is done. */
  | { type: "recovery"; cause: RecoveryCause; phase: RecoveryPhase; done: number; of: number }
  | { type: "index"; state: IndexState };

export interface VolumeOptions {
  /** Open without writing a byte to the storage. */
  readOnly?: boolean;
  /** Compress new data. Default true. */
  compression?: boolean;
  /** Open and use the deduplication index. Default true. */
  deduplication?: boolean;
  /** Pages of the block map cache, 4096 bytes each: at least 128. Default 32768. */
  blockMapCacheBlocks?: number;
  /** Age at which dirty block map pages are written: 1 to 22855, default 16380. */
  maximumAge?: number;
  /** 4096 (default), or 512 for clients that write sectors. */
  logicalBlockSize?: 512 | 4096;
  /** Largest discard that is treated as one, in blocks; longer ones pass over what is unmapped already. Default 1. */
  maxDiscardBlocks?: number;
  /**
   * Discard freed blocks on the storage: in aligned groups of so many blocks (1 to 512), when they have waited so long for their
   * neighbours (default one second). Default: never. Storage that cannot discard gets none.
   */
  discardStorage?: { groupBlocks: number; delayMs?: number };
  /** Logical blocks to grow to at this start; not less than the volume has. */
  logicalBlocks?: number;
  /** Requests of one block in flight at most: 1 to 2048, the default. */
  dataVios?: number;
  /** Take the memory of the index at once, in the background, not as records come: for volumes that run long. Default false. */
  prefaultIndex?: boolean;
  /** Number of this start, for the statistics. */
  instance?: number;
  clock?: Clock;
  log?: (level: "info" | "warning" | "error", text: string) => void;
  onChange?: (event: VolumeEvent) => void;
}

export interface VolumeStatus {
  mode: "normal" | "recovering" | "read-only";
  recovering: boolean;
  indexState: IndexState;
  compression: boolean;
  /** Data and overhead, in blocks of 4096 bytes. */
  usedBlocks: number;
  totalBlocks: number;
}

export interface VolumeConfigReport {
  physicalBlocks: number;
  logicalBlocks: number;
  slabBlocks: number;
  /** GiB. */
  indexMemory: number;
  indexSparse: boolean;
  uuid: Uint8Array;
  nonce: bigint;
  compression: boolean;
  deduplication: boolean;
  blockMapCacheBlocks: number;
  maximumAge: number;
  logicalBlockSize: number;
}
