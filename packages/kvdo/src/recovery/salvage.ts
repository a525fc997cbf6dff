/**
 * What can be saved of a recovery journal that is damaged, or of the old format: for the read-only rebuild, and for reading
 * a volume that cannot be recovered (Linux 6.12, read-only rebuild). Holes, torn sectors and invalid entries are skipped.
 */
import { JOURNAL_ENTRIES_PER_SECTOR, SECTORS_PER_BLOCK } from "../constants.ts";
import {
  journalSectorAt,
  journalSectorHeader,
  METADATA_TYPE,
  OLD_JOURNAL_MAPPING_AT,
  OLD_JOURNAL_OPERATION,
  oldJournalEntryAt,
  oldJournalSectorCapacity,
  readJournalEntryOperation,
  readJournalEntrySlot,
  readJournalEntrySlotPbn,
  readMappingPbn,
  readMappingState,
  recoveryJournalHeader,
} from "../format/index.ts";
import { type EntryBounds, JournalEntry, MappingChanges } from "./journal-entries.ts";
import type { JournalScan } from "./journal-scan.ts";

export interface Salvage {
  changes: MappingChanges;
  /** Blocks of the journal that should be there and are not, and entries that cannot be right. */
  missingBlocks: number;
  badEntries: number;
}

/** Everything usable from the block map head to the newest block, in order. */
export function salvageJournal(scan: JournalScan, bounds: EntryBounds): Salvage {
  const salvage: Salvage = { changes: new MappingChanges(0), missingBlocks: 0, badEntries: 0 };
  if (!scan.found) return salvage;
  const newest = scan.block(scan.highest);
  const type = newest?.[recoveryJournalHeader.at.metadataType.offset];
  const isOld = type === METADATA_TYPE.oldRecoveryJournal;
  const sectorCapacity = (sector: number): number =>
    isOld ? oldJournalSectorCapacity(sector) : JOURNAL_ENTRIES_PER_SECTOR;
  const blocks: Uint8Array[] = [];
  for (let sequence = scan.blockMapHead; sequence <= scan.highest; sequence++) {
    const block = scan.block(sequence);
    if (block === undefined || block[recoveryJournalHeader.at.metadataType.offset] !== type) salvage.missingBlocks++;
    else blocks.push(block);
  }
  salvage.changes = new MappingChanges(blocks.length * 311);
  const entry = new JournalEntry();
  for (const block of blocks) {
    forEachWholeEntry(block, sectorCapacity, (index) => {
      if (isOld) {
        if (!decodeOld(entry, block, index)) return;
      } else entry.decode(block, index);
      if (entry.problem(bounds) === null) salvage.changes.add(entry);
      else salvage.badEntries++;
    });
  }
  salvage.changes.sort();
  return salvage;
}

/** Entries of every sector that matches the header, counting full sectors towards what the header claims. */
function forEachWholeEntry(
  block: Uint8Array,
  capacity: (sector: number) => number,
  use: (index: number) => void,
): void {
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  // Field by field: damage in those that are not needed, such as the counts of use, costs nothing.
  const { at } = recoveryJournalHeader;
  const header = {
    entryCount: at.entryCount.get(view, 0),
    checkByte: at.checkByte.get(view, 0),
    recoveryCount: at.recoveryCount.get(view, 0),
  };
  let before = 0;
  for (let sector = 1; sector < SECTORS_PER_BLOCK && before < header.entryCount; sector++) {
    const { checkByte, recoveryCount, entryCount } = journalSectorHeader.get(view, journalSectorAt(sector));
    if (checkByte === header.checkByte && recoveryCount === header.recoveryCount) {
      const count = Math.min(entryCount, capacity(sector), header.entryCount - before);
      for (let i = 0; i < count; i++) use(before + i);
    }
    before += capacity(sector);
  }
}

/** Decodes entry `index` of an old block; false for a decrement, which changes no mapping. */
function decodeOld(entry: JournalEntry, block: Uint8Array, index: number): boolean {
  const at = oldJournalEntryAt(index);
  const operation = readJournalEntryOperation(block, at);
  if (operation !== OLD_JOURNAL_OPERATION.dataIncrement && operation !== OLD_JOURNAL_OPERATION.blockMapIncrement)
    return false;
  entry.operation = operation === OLD_JOURNAL_OPERATION.blockMapIncrement ? 1 : 0;
  entry.slotPbn = readJournalEntrySlotPbn(block, at);
  entry.slot = readJournalEntrySlot(block, at);
  entry.newPbn = readMappingPbn(block, at + OLD_JOURNAL_MAPPING_AT);
  entry.newState = readMappingState(block, at + OLD_JOURNAL_MAPPING_AT);
  entry.oldPbn = 0;
  entry.oldState = 0;
  return true;
}
