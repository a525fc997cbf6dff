/**
 * What the manager needs of a volume and of the program that makes volumes: the narrow waist between this package and
 * `@vdo/kvdo`. Tests put a volume in memory behind it.
 */
import type { BlockDevice } from "@vdo/block-device";
import type { VdoStatistics } from "@vdo/kvdo";

/** Statistics of a volume, by the names of the `stats` message. */
export type VolumeStatistics = VdoStatistics;

/** What the status line tells of a running volume. Counts in blocks of 4096 bytes. */
export interface VolumeStatus {
  mode: "normal" | "recovering" | "read-only";
  recovering: boolean;
  indexState: string;
  compression: boolean;
  usedBlocks: number;
  totalBlocks: number;
}

/** Fixed properties of an open volume. Counts in blocks of 4096 bytes, `indexMemory` in GiB. */
export interface VolumeProperties {
  physicalBlocks: number;
  logicalBlocks: number;
  slabBlocks: number;
  indexMemory: number;
  indexSparse: boolean;
  uuid: Uint8Array;
}

/** An open volume. */
export interface VolumeHandle extends BlockDevice {
  statistics(): VolumeStatistics;
  status(): VolumeStatus;
  config(): VolumeProperties;
  setCompression(on: boolean): Promise<void>;
  setDeduplication(on: boolean): Promise<void>;
  indexMessage(message: "create" | "close" | "enable" | "disable"): Promise<void>;
  suspend(options: { save: boolean }): Promise<void>;
  resume(): Promise<void>;
  /** Makes the presented device larger, in use: `logicalBlocks` of 4096 bytes. */
  growLogical(logicalBlocks: number): Promise<void>;
  /** Takes `physicalBlocks` blocks of the storage into use, which has them already. */
  growPhysical(physicalBlocks: number): Promise<void>;
}

/** How far the recovery or the rebuild of a volume has come: so much of this phase is done. */
export interface RecoveryProgress {
  /** It was not stopped cleanly; a rebuild was asked for; or its journal is applied in memory, for it is in read-only mode. */
  cause: "crash" | "rebuild" | "read-only";
  phase: string;
  done: number;
  of: number;
}

export interface OpenOptions {
  readOnly: boolean;
  compression: boolean;
  deduplication: boolean;
  blockMapCacheBlocks: number;
  maximumAge: number;
  /** Largest discard that is treated as one. */
  maxDiscardBlocks: number;
  logicalBlockSize: 512 | 4096;
  /** Discard freed blocks on the storage, in aligned groups of so many. Default: never. */
  discardGroupBlocks?: number;
  log(level: "info" | "warning" | "error", text: string): void;
  /** Told as a recovery goes on, while the volume opens and after. */
  onRecovery?(progress: RecoveryProgress): void;
}

export interface FormatRequest {
  /** Bytes, a multiple of 4096; 0 lets the formatter decide. */
  logicalSize: number;
  slabBits: number;
  /** GiB. */
  indexMemory: number;
  sparse: boolean;
  uuid?: Uint8Array;
}

/** Figures of a formatted volume. Counts in blocks of 4096 bytes. */
export interface FormatFigures {
  physicalBlocks: number;
  logicalBlocks: number;
  slabBlocks: number;
  slabCount: number;
}

/** What the storage says about the volume on it. */
export interface StoredVolume extends VolumeProperties {
  /** State of the super block, as `CLEAN`, `NEW`, `DIRTY`, … */
  state: string;
}

/** Memory that a running volume takes, in bytes. */
export interface MemoryNeed {
  total: number;
  /** What takes it, for people: `["index", 268435456]`. */
  parts: readonly (readonly [what: string, bytes: number])[];
}

export interface Engine {
  /** All checks of {@link format} and its figures, without a write. Throws what `format` would. */
  plan(blockCount: number, request: FormatRequest): FormatFigures;
  format(device: BlockDevice, request: FormatRequest): Promise<FormatFigures>;
  /** Geometry and super block, checked. */
  inspect(device: BlockDevice): Promise<StoredVolume>;
  /** Writes another UUID into the geometry block. */
  setUuid(device: BlockDevice, uuid: Uint8Array): Promise<void>;
  memoryNeeded(
    volume: { indexMemory: number; indexSparse: boolean },
    options: { blockMapCacheBlocks: number },
  ): MemoryNeed;
  open(device: BlockDevice, options: OpenOptions): Promise<VolumeHandle>;
}
