/**
 * A block of the recovery journal: a header in sector 0, entries in sectors 1 to 7, each of which repeats the check byte
 * and the recovery count, so that a torn write shows.
 */
import { struct, u8, u16le, u64le, u64leBig, type ValueOf } from "@vdo/base";
import { JOURNAL_ENTRIES_PER_BLOCK, JOURNAL_SECTOR_HEADER_SIZE, SECTOR_SIZE } from "../constants.ts";
import { OLD_JOURNAL_ENTRIES_PER_BLOCK } from "./old-journal-entry.ts";

export const recoveryJournalHeader = struct("RecoveryJournalHeader", 53, {
  /** Oldest sequence number whose entries may not be in block map pages on disk yet. */
  blockMapHead: u64le,
  /** Oldest sequence number whose entries may not be in slab journals on disk yet. */
  slabJournalHead: u64le,
  sequence: u64le,
  nonce: u64leBig,
  /** `METADATA_TYPE`. */
  metadataType: u8,
  /** Entries in this block so far. */
  entryCount: u16le,
  /** These two are as of the opening of the block, before its first entry. */
  logicalBlocksUsed: u64le,
  blockMapDataBlocks: u64le,
  checkByte: u8,
  recoveryCount: u8,
});
export type RecoveryJournalHeader = ValueOf<typeof recoveryJournalHeader>;

export const journalSectorHeader = struct("JournalSectorHeader", JOURNAL_SECTOR_HEADER_SIZE, {
  checkByte: u8,
  recoveryCount: u8,
  entryCount: u8,
});
export type JournalSectorHeader = ValueOf<typeof journalSectorHeader>;

/** Kinds of journal blocks. */
export const METADATA_TYPE = { oldRecoveryJournal: 1, slabJournal: 2, recoveryJournal: 3 } as const;

/** Byte at which sector `sector` (1 to 7) starts. */
export function journalSectorAt(sector: number): number {
  return sector * SECTOR_SIZE;
}

/** The check byte of blocks with this sequence number: changes on each lap of a journal of `journalBlocks` blocks. */
export function journalCheckByte(sequence: number, journalBlocks: number): number {
  return (Math.floor(sequence / journalBlocks) % 0x80) | 0x80;
}

/** Position in the journal partition of the block with this sequence number. */
export function journalPosition(sequence: number, journalBlocks: number): number {
  return sequence % journalBlocks;
}

/**
 * True when the block read from position `position` of a journal of `journalBlocks` blocks is a block of this volume's
 * present life: nonce, recovery count, type with an entry count it can have, and a sequence number that belongs there.
 */
export function isJournalBlockValid(
  view: DataView,
  { nonce, recoveryCount, position, journalBlocks }: JournalExpectation,
): boolean {
  const at = recoveryJournalHeader.at;
  if (at.nonce.get(view, 0) !== nonce || at.recoveryCount.get(view, 0) !== recoveryCount) return false;
  const type = at.metadataType.get(view, 0);
  const count = at.entryCount.get(view, 0);
  if (type === METADATA_TYPE.recoveryJournal) {
    if (count > JOURNAL_ENTRIES_PER_BLOCK) return false;
  } else if (type !== METADATA_TYPE.oldRecoveryJournal || count > OLD_JOURNAL_ENTRIES_PER_BLOCK) return false;
  // Sequence numbers stay below 2^48; a larger one is damage. The journal is a power of two, at most 2^31 blocks.
  for (const field of [at.sequence, at.blockMapHead, at.slabJournalHead]) {
    if (view.getUint16(field.offset + 6, true) !== 0) return false;
  }
  return at.sequence.get(view, 0) % journalBlocks === position;
}

export interface JournalExpectation {
  nonce: bigint;
  /** Complete recoveries of the volume, low 8 bits. */
  recoveryCount: number;
  position: number;
  journalBlocks: number;
}
