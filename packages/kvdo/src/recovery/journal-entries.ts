/** The entries of a recovery journal between a head and the tail, decoded into columns and checked (Linux 6.12). */
import { BLOCK_MAP_ENTRIES_PER_PAGE, JOURNAL_ENTRIES_PER_BLOCK } from "../constants.ts";
import {
  isCompressedState,
  isValidMapping,
  JOURNAL_NEW_MAPPING_AT,
  JOURNAL_OLD_MAPPING_AT,
  JOURNAL_OPERATION_BLOCK_MAP,
  JOURNAL_OPERATION_DATA,
  journalEntryAt,
  readJournalEntryOperation,
  readJournalEntrySlot,
  readJournalEntrySlotPbn,
  readMappingPbn,
  readMappingState,
} from "../format/index.ts";
import { corruptJournal, type JournalScan, type JournalTail } from "./journal-scan.ts";

export interface EntryBounds {
  physicalBlocks: number;
  isDataBlock: (pbn: number) => boolean;
}

/** A decoded entry; one object is used again for all. */
export class JournalEntry {
  operation = 0;
  slotPbn = 0;
  slot = 0;
  newPbn = 0;
  newState = 0;
  oldPbn = 0;
  oldState = 0;

  /** Decodes entry `index` of `block`. */
  decode(block: Uint8Array, index: number): void {
    const at = journalEntryAt(index);
    this.operation = readJournalEntryOperation(block, at);
    this.slotPbn = readJournalEntrySlotPbn(block, at);
    this.slot = readJournalEntrySlot(block, at);
    this.newPbn = readMappingPbn(block, at + JOURNAL_NEW_MAPPING_AT);
    this.newState = readMappingState(block, at + JOURNAL_NEW_MAPPING_AT);
    this.oldPbn = readMappingPbn(block, at + JOURNAL_OLD_MAPPING_AT);
    this.oldState = readMappingState(block, at + JOURNAL_OLD_MAPPING_AT);
  }

  /** What is wrong with the entry, or null. */
  problem({ physicalBlocks, isDataBlock }: EntryBounds): string | null {
    const isMapping = (pbn: number, state: number): boolean =>
      isValidMapping(pbn, state) && (pbn === 0 || isDataBlock(pbn));
    if (this.slotPbn >= physicalBlocks) return "page";
    if (this.slot >= BLOCK_MAP_ENTRIES_PER_PAGE) return "slot";
    if (!isMapping(this.newPbn, this.newState)) return "new mapping";
    if (!isMapping(this.oldPbn, this.oldState)) return "old mapping";
    if (this.operation === JOURNAL_OPERATION_DATA) return null;
    if (this.operation !== JOURNAL_OPERATION_BLOCK_MAP) return "operation";
    if (this.newPbn === 0 || isCompressedState(this.newState)) return "new page";
    return this.oldPbn === 0 && this.oldState === 0 ? null : "old page";
  }
}

/** Calls `use` for every entry from block `from` to `tail`, in order; blocks before the tail are full. */
export function forEachEntry(
  { scan, from, tail }: { scan: JournalScan; from: number; tail: JournalTail },
  use: (entry: JournalEntry, sequence: number, index: number) => void,
): void {
  const entry = new JournalEntry();
  for (let sequence = from; sequence <= tail.sequence; sequence++) {
    const block = scan.block(sequence);
    if (block === undefined) throw corruptJournal(`block ${sequence}`, "block", "present", "missing");
    const count = sequence === tail.sequence ? tail.entries : JOURNAL_ENTRIES_PER_BLOCK;
    for (let index = 0; index < count; index++) {
      entry.decode(block, index);
      use(entry, sequence, index);
    }
  }
}

/** Mappings to be stored in block map pages, sorted by page; within a page in journal order, so that the last one counts. */
export class MappingChanges {
  readonly #pages: Float64Array;
  readonly #slots: Uint16Array;
  readonly #pbns: Float64Array;
  readonly #states: Uint8Array;
  #order: Uint32Array = new Uint32Array(0);
  length = 0;

  constructor(capacity: number) {
    this.#pages = new Float64Array(capacity);
    this.#slots = new Uint16Array(capacity);
    this.#pbns = new Float64Array(capacity);
    this.#states = new Uint8Array(capacity);
  }

  add(entry: JournalEntry): void {
    const at = this.length++;
    this.#pages[at] = entry.slotPbn;
    this.#slots[at] = entry.slot;
    this.#pbns[at] = entry.newPbn;
    this.#states[at] = entry.newState;
  }

  /** Puts the changes in the order of their pages: to be called once, when all are there. */
  sort(): void {
    this.#order = Uint32Array.from({ length: this.length }, (_, i) => i);
    const pages = this.#pages;
    this.#order.sort((a, b) => (pages[a] as number) - (pages[b] as number) || a - b);
  }

  /** Page of the change in place `place` of the order. */
  pageAt(place: number): number {
    return this.#pages[this.#order[place] as number] as number;
  }

  /** The first place in the order with a page of at least `pbn`. */
  firstPlace(pbn: number): number {
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.pageAt(middle) < pbn) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Applies all changes of page `pbn` through `map`; returns how many there were. */
  apply(pbn: number, map: (slot: number, newPbn: number, newState: number) => void): number {
    const first = this.firstPlace(pbn);
    let place = first;
    for (; place < this.length && this.pageAt(place) === pbn; place++) {
      const at = this.#order[place] as number;
      map(this.#slots[at] as number, this.#pbns[at] as number, this.#states[at] as number);
    }
    return place - first;
  }

  /** Distinct pages, ascending. */
  *pages(): Iterable<number> {
    let last = -1;
    for (let place = 0; place < this.length; place++) {
      const page = this.pageAt(place);
      if (page !== last) yield page;
      last = page;
    }
  }
}
