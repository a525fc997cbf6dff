/** One of the in-memory blocks of the recovery journal: the entries assigned to it, and its encoded form. */
import { BLOCK_SIZE, JOURNAL_ENTRIES_PER_BLOCK, JOURNAL_ENTRIES_PER_SECTOR } from "../constants.ts";
import { type DataVio, VioQueue } from "../data-path/data-vio.ts";
import {
  journalEntryAt,
  journalSectorAt,
  METADATA_TYPE,
  recoveryJournalHeader,
  writeJournalEntry,
} from "../format/index.ts";

/** Figures of a block that are fixed when it is opened. */
export interface JournalBlockHeader {
  sequence: number;
  nonce: bigint;
  checkByte: number;
  recoveryCount: number;
  logicalBlocksUsed: number;
  blockMapDataBlocks: number;
}

export class JournalBlock {
  readonly bytes = new Uint8Array(BLOCK_SIZE);
  readonly #view = new DataView(this.bytes.buffer);
  sequence = 0;
  /** Entries assigned, encoded, and known to be on the storage. */
  entryCount = 0;
  encodedCount = 0;
  committedCount = 0;
  isWriting = false;
  /** Assigned but not encoded. */
  readonly waiting = new VioQueue();
  /** Encoded, not yet committed. */
  readonly encoded = new VioQueue();
  #checkByte = 0;
  #recoveryCount = 0;

  get isFull(): boolean {
    return this.entryCount === JOURNAL_ENTRIES_PER_BLOCK;
  }

  /** Every entry assigned is on the storage. */
  get isCommitted(): boolean {
    return this.committedCount === this.entryCount && !this.isWriting;
  }

  open(header: JournalBlockHeader): void {
    this.bytes.fill(0);
    this.sequence = header.sequence;
    this.entryCount = 0;
    this.encodedCount = 0;
    this.committedCount = 0;
    this.#checkByte = header.checkByte;
    this.#recoveryCount = header.recoveryCount;
    recoveryJournalHeader.set(this.#view, 0, {
      blockMapHead: 0,
      slabJournalHead: 0,
      sequence: header.sequence,
      nonce: header.nonce,
      metadataType: METADATA_TYPE.recoveryJournal,
      entryCount: 0,
      logicalBlocksUsed: header.logicalBlocksUsed,
      blockMapDataBlocks: header.blockMapDataBlocks,
      checkByte: header.checkByte,
      recoveryCount: header.recoveryCount,
    });
  }

  /** Gives `vio`'s entry the next place in this block. */
  assign(vio: DataVio): void {
    vio.journalSequence = this.sequence;
    vio.journalIndex = this.entryCount;
    this.entryCount++;
    this.waiting.push(vio);
  }

  /** Encodes all waiting entries and the heads; returns how many entries were encoded. The buffer must not be in flight. */
  encode(blockMapHead: number, slabJournalHead: number): number {
    let count = 0;
    for (let vio = this.waiting.shift(); vio !== null; vio = this.waiting.shift()) {
      this.#encodeEntry(vio);
      this.encoded.push(vio);
      count++;
    }
    const at = recoveryJournalHeader.at;
    at.blockMapHead.set(this.#view, 0, blockMapHead);
    at.slabJournalHead.set(this.#view, 0, slabJournalHead);
    at.entryCount.set(this.#view, 0, this.encodedCount);
    return count;
  }

  #encodeEntry(vio: DataVio): void {
    const index = vio.journalIndex;
    const inSector = index % JOURNAL_ENTRIES_PER_SECTOR;
    const sector = journalSectorAt(1 + (index - inSector) / JOURNAL_ENTRIES_PER_SECTOR);
    if (inSector === 0) {
      this.bytes[sector] = this.#checkByte;
      this.bytes[sector + 1] = this.#recoveryCount;
    }
    this.bytes[sector + 2] = inSector + 1;
    writeJournalEntry(
      this.bytes,
      journalEntryAt(index),
      vio.operation,
      vio.entryPbn,
      vio.entrySlot,
      vio.entryOldPbn,
      vio.entryOldState,
      vio.entryNewPbn,
      vio.entryNewState,
    );
    this.encodedCount = index + 1;
  }
}
