/** Small volumes whose recovery journal is made by hand, entry by entry, as a crash would have left it. */
import { MemoryDevice } from "@vdo/block-device";
import {
  decodeSuperBlock,
  encodeSuperBlock,
  journalCheckByte,
  journalEntryAt,
  journalPosition,
  journalSectorAt,
  journalSectorHeader,
  METADATA_TYPE,
  recoveryJournalHeader,
  type SuperBlock,
  VOLUME_STATE,
  type VolumeState,
  writeJournalEntry,
} from "../../src/format/index.ts";
import { VdoVolume, type VolumeOptions } from "../../src/index.ts";
import { copyDevice, editBlock } from "./crash-copy.ts";
import { pagesOf, type Regions, regionsOf } from "./regions.ts";
import { formatTiny, type TinyOptions, tinyBlocks } from "./tiny-volume.ts";
import { workloadBlock } from "./workload-block.ts";

export const TINY: TinyOptions = {
  slabBits: 11,
  slabs: 3,
  recoveryJournalBlocks: 32,
  slabJournalBlocks: 8,
  logicalBlocks: 60_000,
};
export const OPTIONS: VolumeOptions = { deduplication: false, blockMapCacheBlocks: 128, maximumAge: 8 };

export interface HandEntry {
  operation?: number;
  slotPbn?: number;
  slot: number;
  newPbn: number;
  newState?: number;
  oldPbn?: number;
  oldState?: number;
}

/** Edits the super block of the volume on `device`. */
export async function editSuperBlock(device: MemoryDevice, edit: (value: SuperBlock) => void): Promise<void> {
  const { superBlock } = await regionsOf(device);
  await editBlock(device, superBlock.start, (bytes) => {
    const value = decodeSuperBlock(bytes);
    edit(value);
    bytes.set(encodeSuperBlock(value, bytes.slice()));
  });
}

export function setState(device: MemoryDevice, state: VolumeState): Promise<void> {
  return editSuperBlock(device, (value) => {
    value.vdo.state = state;
  });
}

let clean: Promise<MemoryDevice> | undefined;

/** A copy of a volume that was stopped cleanly with logical block 0 written: one leaf, and one data block in it. */
export async function cleanImage(): Promise<MemoryDevice> {
  clean ??= (async () => {
    const device = new MemoryDevice({ blockCount: tinyBlocks(TINY) });
    await formatTiny(device, TINY);
    const volume = await VdoVolume.open(device, OPTIONS);
    await volume.write(0, workloadBlock(1));
    await volume.close();
    return device;
  })();
  return copyDevice(await clean);
}

/** Entries per block and per sector. */
export const PER_BLOCK = 217;
export const PER_SECTOR = 31;

export interface JournalImage {
  device: MemoryDevice;
  regions: Regions;
  leaf: number;
  /** Sequence number of the first block made by hand, and the number of blocks. */
  start: number;
  blocks: number;
  /** Data block to which entry `i` maps logical block `i + 1`. */
  pbnOf: (i: number) => number;
  /** Edits the block with sequence number `start + n`. */
  edit: (n: number, edit: (bytes: Uint8Array, view: DataView) => void) => Promise<void>;
}

/** Where entry `i` of the journal is: its block, and the byte in it. */
export function entryPlace(i: number): [block: number, at: number] {
  return [Math.floor(i / PER_BLOCK), journalEntryAt(i % PER_BLOCK)];
}

export interface JournalImageOptions {
  entries: number;
  /** Sequence number of the first block; by default where the clean volume would go on. */
  start?: number;
  state?: VolumeState;
}

/** A dirty volume whose journal maps logical blocks 1, 2, … to free data blocks of slab 0, and nothing else says so. */
export async function journalImage({ entries, start, state }: JournalImageOptions): Promise<JournalImage> {
  const device = await cleanImage();
  const regions = await regionsOf(device);
  const leaf = (await pagesOf(device, 0))[0] as number;
  const { decoded } = regions;
  const first = start ?? decoded.recoveryJournal.journalStart;
  await editSuperBlock(device, (value) => {
    value.vdo.state = state ?? VOLUME_STATE.dirty;
    value.recoveryJournal.journalStart = first;
  });
  const pbnOf = (i: number): number => regions.slab(0).data.start + 800 + i;
  const blocks = Math.ceil(entries / PER_BLOCK);
  const place = (n: number): number => regions.journal.start + journalPosition(first + n, regions.journal.count);
  for (let n = 0; n < blocks; n++) {
    const count = Math.min(PER_BLOCK, entries - n * PER_BLOCK);
    const block = new Uint8Array(4096);
    const view = new DataView(block.buffer);
    const checkByte = journalCheckByte(first + n, regions.journal.count);
    recoveryJournalHeader.set(view, 0, {
      blockMapHead: first,
      slabJournalHead: first,
      sequence: first + n,
      nonce: decoded.vdo.nonce,
      metadataType: METADATA_TYPE.recoveryJournal,
      entryCount: count,
      logicalBlocksUsed: decoded.recoveryJournal.logicalBlocksUsed + n * PER_BLOCK,
      blockMapDataBlocks: decoded.recoveryJournal.blockMapDataBlocks,
      checkByte,
      recoveryCount: 0,
    });
    for (let sector = 0; sector * PER_SECTOR < count; sector++) {
      const entryCount = Math.min(PER_SECTOR, count - sector * PER_SECTOR);
      journalSectorHeader.set(view, journalSectorAt(sector + 1), { checkByte, recoveryCount: 0, entryCount });
    }
    for (let i = 0; i < count; i++) {
      putEntry(block, i, { slotPbn: leaf, slot: n * PER_BLOCK + i + 1, newPbn: pbnOf(n * PER_BLOCK + i) });
    }
    await device.write(place(n), block);
  }
  return {
    ...{ device, regions, leaf, start: first, blocks, pbnOf },
    edit: (n, edit) => editBlock(device, place(n), (bytes) => edit(bytes, new DataView(bytes.buffer))),
  };
}

/** Writes entry `i` of a journal block. */
export function putEntry(block: Uint8Array, i: number, entry: HandEntry): void {
  const { operation = 0, slotPbn = 0, slot, newPbn, newState = 1, oldPbn = 0, oldState = 0 } = entry;
  writeJournalEntry(block, journalEntryAt(i), operation, slotPbn, slot, oldPbn, oldState, newPbn, newState);
}
