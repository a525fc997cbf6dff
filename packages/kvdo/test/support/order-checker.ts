/**
 * Checks the order of I/O that crash safety rests on (`vdo-engine` §14), on the recorded log of a volume's device.
 *
 * It knows the format and nothing of the engine. Every write gets a time when it was begun and one when it ended; a write
 * is stable when it was `fua` and ended, or when a flush began after its end and ended. The rules:
 *
 * | | begun only when |
 * |---|---|
 * | recovery journal block | is `fua`; every data block that its new entries name is stable |
 * | block map page | every journal entry that explains its changed slots is stable |
 * | first write of a page | marked not initialised; the second, initialised, when the first is stable |
 * | slab summary block | the slab journal blocks that it names are stable |
 * | reference count block | a flush began after the last slab journal block of its slab before it was written |
 * | super block | is `fua`; everything written before is stable |
 */
import type { BlockDevice, WriteOptions } from "@vdo/block-device";
import {
  isPageInitialised,
  JOURNAL_NEW_MAPPING_AT,
  JOURNAL_OPERATION_DATA,
  journalEntryAt,
  judgeBlockMapPage,
  METADATA_TYPE,
  mappingAt,
  readJournalEntryOperation,
  readJournalEntrySlot,
  readJournalEntrySlotPbn,
  readMappingPbn,
  readMappingState,
  readSummaryEntry,
  recoveryJournalHeader,
  slabJournalHeader,
  summaryIsDirty,
  summaryTailOffset,
} from "../../src/format/index.ts";
import type { Regions } from "./regions.ts";

const BLOCK = 4096;

const NEVER = Number.POSITIVE_INFINITY;

interface Write {
  begun: number;
  ended: number;
  fua: boolean;
  isInitialised: boolean;
  bytes: Uint8Array;
}

interface Flush {
  begun: number;
  ended: number;
}

/** A journal entry: that page `page` holds (`pbn`, `state`) in `slot` is on the storage from `write`'s end on. */
interface Explanation {
  pbn: number;
  state: number;
  write: Write;
}

function inside({ start, count }: { start: number; count: number }, block: number): boolean {
  return block >= start && block < start + count;
}

/** A device that passes everything on to another one, and holds each write to the rules as it begins. */
export class OrderChecker implements BlockDevice {
  readonly blockSize: number;
  readonly blockCount: number;
  readonly problems: string[] = [];
  problemsMax = 20;
  /** Writes checked, by kind. */
  readonly checked = {
    data: 0,
    journal: 0,
    page: 0,
    firstPage: 0,
    slabJournal: 0,
    counts: 0,
    summary: 0,
    superBlock: 0,
  };
  readonly #base: BlockDevice;
  readonly #regions: Regions;
  readonly #last = new Map<number, Write>();
  readonly #flushes: Flush[] = [];
  /** What the journal says of each slot, by page and slot, oldest first. */
  readonly #explained = new Map<string, Explanation[]>();
  readonly #journalCounts = new Map<number, { sequence: number; entries: number }>();
  readonly #pages = new Set<number>();
  #now = 0;

  /** `regions`: where the parts of the volume on `base` are. The volume is to be opened on this object. */
  constructor(base: BlockDevice, regions: Regions) {
    this.#base = base;
    this.#regions = regions;
    this.blockSize = base.blockSize;
    this.blockCount = base.blockCount;
  }

  read(start: number, target: Uint8Array): Promise<void> {
    return this.#base.read(start, target);
  }

  async write(start: number, source: Uint8Array, options?: WriteOptions): Promise<void> {
    const writes: Write[] = [];
    for (let at = 0; at < source.length; at += BLOCK) {
      const block = start + at / BLOCK;
      const bytes = source.slice(at, at + BLOCK);
      const write = { begun: ++this.#now, ended: NEVER, fua: options?.fua === true, isInitialised: false, bytes };
      this.#check(block, write);
      this.#last.set(block, write);
      writes.push(write);
    }
    await this.#base.write(start, source, options);
    for (const write of writes) write.ended = ++this.#now;
  }

  async flush(): Promise<void> {
    const flush = { begun: ++this.#now, ended: NEVER };
    await this.#base.flush();
    flush.ended = ++this.#now;
    this.#flushes.push(flush);
  }

  close(): Promise<void> {
    return this.#base.close();
  }

  /** Steps so far: the time of the checker. */
  get now(): number {
    return this.#now;
  }

  /** The first time after `since` at which the journal says for good that `slot` of `page` holds (`pbn`, `state`). */
  journaledAt({
    page,
    slot,
    pbn,
    state,
    since,
  }: {
    page: number;
    slot: number;
    pbn: number;
    state: number;
    since: number;
  }): number {
    const entries = this.#explained.get(`${page}/${slot}`) ?? [];
    const times = entries
      .filter((entry) => entry.pbn === pbn && entry.state === state && entry.write.begun > since)
      .map((entry) => this.#stableAt(entry.write));
    return Math.min(NEVER, ...times);
  }

  /** Time from which `write` survives any crash. */
  #stableAt(write: Write): number {
    if (write.fua) return write.ended;
    // Flushes end in the order in which they began, or nearly; the first that began after the write is soon found.
    let from = this.#flushes.length;
    while (from > 0 && this.#flushes[from - 1]!.begun > write.ended) from--;
    let stable = NEVER;
    for (; from < this.#flushes.length; from++) stable = Math.min(stable, this.#flushes[from]!.ended);
    return stable;
  }

  #isStable(write: Write, at: number): boolean {
    return this.#stableAt(write) < at;
  }

  #problem(text: string): void {
    if (this.problems.length < this.problemsMax) this.problems.push(text);
  }

  #check(block: number, write: Write): void {
    const { superBlock, index, roots, journal, summary, slabs, decoded } = this.#regions;
    if (inside(index, block)) return;
    if (inside(superBlock, block)) return this.#checkSuperBlock(write);
    if (inside(journal, block)) return this.#checkJournal(block, write);
    if (inside(summary, block)) return this.#checkSummary(block, write);
    if (inside(roots, block)) return this.#checkPage(block, write);
    if (!inside(slabs, block)) return this.#problem(`block ${block} is in no region`);
    const { slabConfig, firstBlock } = decoded.slabDepot;
    const number = Math.floor((block - firstBlock) / slabConfig.slabBlocks);
    const { counts, journal: slabJournal } = this.#regions.slab(number);
    if (inside(counts, block)) return this.#checkCounts(number, write);
    if (inside(slabJournal, block)) return this.#checkSlabJournal(block, write);
    // Judged by the header alone: a page that is not initialised has it too.
    const copy = write.bytes.slice();
    copy[32] = 1;
    if (judgeBlockMapPage(new DataView(copy.buffer), decoded.vdo.nonce, block) === "valid") {
      write.isInitialised = isPageInitialised(write.bytes);
      this.#checkPage(block, write);
    } else this.checked.data++;
  }

  #checkSuperBlock(write: Write): void {
    this.checked.superBlock++;
    if (!write.fua) this.#problem("super block: not written through");
    for (const [block, earlier] of this.#last) {
      if (inside(this.#regions.index, block) || earlier.ended === NEVER || earlier.fua) continue;
      if (!this.#isStable(earlier, write.begun)) this.#problem(`super block: block ${block} is not stable`);
    }
  }

  #checkJournal(block: number, write: Write): void {
    this.checked.journal++;
    if (!write.fua) this.#problem(`journal block ${block}: not written through`);
    const header = recoveryJournalHeader.decode(write.bytes);
    const before = this.#journalCounts.get(block);
    const from = before?.sequence === header.sequence ? before.entries : 0;
    this.#journalCounts.set(block, { sequence: header.sequence, entries: header.entryCount });
    for (let i = from; i < header.entryCount; i++) {
      const at = journalEntryAt(i);
      const pbn = readMappingPbn(write.bytes, at + JOURNAL_NEW_MAPPING_AT);
      const state = readMappingState(write.bytes, at + JOURNAL_NEW_MAPPING_AT);
      const key = `${readJournalEntrySlotPbn(write.bytes, at)}/${readJournalEntrySlot(write.bytes, at)}`;
      const list = this.#explained.get(key) ?? [];
      list.push({ pbn, state, write });
      this.#explained.set(key, list);
      if (readJournalEntryOperation(write.bytes, at) !== JOURNAL_OPERATION_DATA || pbn === 0) continue;
      const data = this.#last.get(pbn);
      // Not written in this run: an older copy that is shared.
      if (data !== undefined && !this.#isStable(data, write.begun)) {
        this.#problem(`journal block ${block}, entry ${i}: data block ${pbn} is not stable`);
      }
    }
  }

  #checkPage(block: number, write: Write): void {
    this.checked.page++;
    write.isInitialised = isPageInitialised(write.bytes);
    const before = this.#last.get(block);
    if (!this.#pages.has(block)) {
      if (write.isInitialised) {
        if (before === undefined) return this.#known(block);
        if (!this.#isStable(before, write.begun))
          this.#problem(`page ${block}: initialised before its first write is stable`);
        this.#known(block);
      } else this.checked.firstPage++;
    } else if (!write.isInitialised) this.#problem(`page ${block}: not initialised again`);
    const isNew = before === undefined || !this.#pages.has(block);
    for (let slot = 0; slot < 812; slot++) {
      const list = this.#explained.get(`${block}/${slot}`);
      if (list === undefined) continue;
      const pbn = readMappingPbn(write.bytes, mappingAt(slot));
      const state = readMappingState(write.bytes, mappingAt(slot));
      // The content may be that of before the first entry; else an entry that says so is stable.
      const says = list.filter((entry) => entry.pbn === pbn && entry.state === state);
      // A page that was never written begins with nothing mapped, whatever its block held.
      if (isNew && pbn === 0 && state === 0) continue;
      if (
        says.length > 0 &&
        !says.some((entry) => this.#isStable(entry.write, write.begun)) &&
        !this.#held(before, slot, pbn, state)
      ) {
        this.#problem(`page ${block}, slot ${slot}: no stable journal entry maps it to ${pbn}/${state}`);
      }
    }
  }

  #known(block: number): void {
    this.#pages.add(block);
  }

  #held(before: Write | undefined, slot: number, pbn: number, state: number): boolean {
    if (before === undefined) return false;
    return (
      readMappingPbn(before.bytes, mappingAt(slot)) === pbn && readMappingState(before.bytes, mappingAt(slot)) === state
    );
  }

  #checkSlabJournal(block: number, write: Write): void {
    this.checked.slabJournal++;
    const header = slabJournalHeader.decode(write.bytes);
    if (header.metadataType !== METADATA_TYPE.slabJournal) this.#problem(`block ${block} is no slab journal block`);
    // Its newest entry was committed before: the recovery journal block that holds it is stable.
    const { journal } = this.#regions;
    const source = this.#last.get(journal.start + (header.recoveryPoint.sequence % journal.count));
    const entry = header.recoveryPoint.entry >> 1;
    if (source === undefined) return;
    const { sequence, entryCount } = recoveryJournalHeader.decode(source.bytes);
    if (
      sequence < header.recoveryPoint.sequence ||
      (sequence === header.recoveryPoint.sequence && entryCount <= entry)
    ) {
      this.#problem(
        `slab journal block ${block}: journal entry ${header.recoveryPoint.sequence}/${entry} was not written`,
      );
    }
  }

  #checkSummary(block: number, write: Write): void {
    this.checked.summary++;
    const { summary, decoded } = this.#regions;
    const first = ((block - summary.start) * BLOCK) / 2;
    const slabs = Math.floor(
      (decoded.slabDepot.lastBlock - decoded.slabDepot.firstBlock) / decoded.slabDepot.slabConfig.slabBlocks,
    );
    const before = this.#last.get(block);
    for (let slab = first; slab < Math.min(slabs, first + BLOCK / 2); slab++) {
      const entry = readSummaryEntry(write.bytes, (slab - first) * 2);
      if (before !== undefined && readSummaryEntry(before.bytes, (slab - first) * 2) === entry) continue;
      const { journal, counts } = this.#regions.slab(slab);
      const tail = (summaryTailOffset(entry) + journal.count - 1) % journal.count;
      const named = this.#last.get(journal.start + tail);
      if (named !== undefined && summaryIsDirty(entry) && !this.#isStable(named, write.begun)) {
        this.#problem(`summary of slab ${slab}: names a journal block that is not stable`);
      }
      for (let i = 0; i < counts.count && !summaryIsDirty(entry); i++) {
        const written = this.#last.get(counts.start + i);
        if (written !== undefined && !this.#isStable(written, write.begun)) {
          this.#problem(`summary of slab ${slab}: says clean before its counts are stable`);
        }
      }
    }
  }

  #checkCounts(slab: number, write: Write): void {
    this.checked.counts++;
    const { journal } = this.#regions.slab(slab);
    for (let i = 0; i < journal.count; i++) {
      const block = this.#last.get(journal.start + i);
      // Blocks whose write has not ended hold only what is in the recovery journal too.
      if (
        block !== undefined &&
        block.ended < this.#lastFlushBegun(write.begun) &&
        !this.#isStable(block, write.begun)
      ) {
        this.#problem(`counts of slab ${slab}: a journal block written before is not stable`);
      }
    }
    if (this.#lastFlushBegun(write.begun) === 0) this.#problem(`counts of slab ${slab}: no flush before`);
  }

  /** When the last flush began that ended before `time`; 0 for none. */
  #lastFlushBegun(time: number): number {
    for (let i = this.#flushes.length - 1; i >= 0; i--)
      if (this.#flushes[i]!.ended < time) return this.#flushes[i]!.begun;
    return 0;
  }
}
