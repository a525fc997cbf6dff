/**
 * Reads a recovery journal that was not closed, and finds what of it counts (Linux 6.12, recovery after a crash).
 *
 * Every block of the ring is read. A block counts if it carries the volume's nonce and recovery count and stands in the place
 * of its sequence number. The newest heads say from where on the entries may be missing elsewhere; the tail is the end of the
 * unbroken run of whole blocks, and within the last of them the end of the whole sectors: a torn block costs only what was
 * never acknowledged.
 */
import { VdoError } from "@vdo/base";
import { BLOCK_SIZE, JOURNAL_ENTRIES_PER_BLOCK, JOURNAL_ENTRIES_PER_SECTOR, SECTORS_PER_BLOCK } from "../constants.ts";
import {
  isJournalBlockValid,
  journalPosition,
  journalSectorAt,
  journalSectorHeader,
  METADATA_TYPE,
  oldJournalSectorCapacity,
  recoveryJournalHeader,
} from "../format/index.ts";
import { IO_JOURNAL, type StorageIo } from "../io/storage-io.ts";

/** Blocks read by one request (Linux 6.12 reads the journal so: 128 requests for 32768 blocks). */
const BLOCKS_PER_READ = 256;

export interface JournalPlace {
  io: StorageIo;
  /** First PBN and number of blocks of the partition. */
  origin: number;
  size: number;
  nonce: bigint;
  /** Complete recoveries of the volume. */
  recoveries: number;
  /** Sequence number from the super block: older blocks do not count. */
  start: number;
}

/** End of the usable entries: the first `entries` of block `sequence` are the last ones. */
export interface JournalTail {
  sequence: number;
  entries: number;
}

export class JournalScan {
  readonly #place: JournalPlace;
  /** Chunks of the journal with any valid block in them, by number. */
  readonly #chunks = new Map<number, Uint8Array>();
  /** A block of this life of the journal was found. */
  found = false;
  highest: number;
  blockMapHead = 0;
  slabJournalHead = 0;

  private constructor(place: JournalPlace) {
    this.#place = place;
    this.highest = place.start;
  }

  /** Reads the whole journal. Throws what the storage throws. */
  static async read(place: JournalPlace, onProgress: (done: number, of: number) => void): Promise<JournalScan> {
    const scan = new JournalScan(place);
    const step = Math.min(BLOCKS_PER_READ, place.size);
    for (let first = 0; first < place.size; first += step) {
      const chunk = new Uint8Array(step * BLOCK_SIZE);
      await place.io.readMeta(IO_JOURNAL, place.origin + first, chunk);
      if (scan.#examine(chunk, first)) scan.#chunks.set(first / step, chunk);
      onProgress(first + step, place.size);
    }
    return scan;
  }

  #examine(chunk: Uint8Array, first: number): boolean {
    const { nonce, recoveries, size, start } = this.#place;
    const at = recoveryJournalHeader.at;
    let any = false;
    for (let i = 0; i < chunk.length / BLOCK_SIZE; i++) {
      const view = new DataView(chunk.buffer, i * BLOCK_SIZE, BLOCK_SIZE);
      const expected = { nonce, recoveryCount: recoveries % 256, position: first + i, journalBlocks: size };
      if (!isJournalBlockValid(view, expected)) continue;
      any = true;
      const sequence = at.sequence.get(view, 0);
      if (sequence >= start) this.found = true;
      if (sequence > this.highest) this.highest = sequence;
      this.blockMapHead = Math.max(this.blockMapHead, at.blockMapHead.get(view, 0));
      this.slabJournalHead = Math.max(this.slabJournalHead, at.slabJournalHead.get(view, 0));
    }
    return any;
  }

  /** Bytes of the block in the place of `sequence`, whatever it holds; undefined when nothing valid is near. */
  #bytesAt(sequence: number): Uint8Array | undefined {
    const { size } = this.#place;
    const step = Math.min(BLOCKS_PER_READ, size);
    const position = journalPosition(sequence, size);
    const chunk = this.#chunks.get(Math.floor(position / step));
    if (chunk === undefined) return undefined;
    const at = (position % step) * BLOCK_SIZE;
    return chunk.subarray(at, at + BLOCK_SIZE);
  }

  /** The valid block with exactly this sequence number; undefined when there is none. */
  block(sequence: number): Uint8Array | undefined {
    const bytes = this.#bytesAt(sequence);
    if (bytes === undefined) return undefined;
    const { nonce, recoveries, size } = this.#place;
    const view = new DataView(bytes.buffer, bytes.byteOffset, BLOCK_SIZE);
    const position = journalPosition(sequence, size);
    if (!isJournalBlockValid(view, { nonce, recoveryCount: recoveries % 256, position, journalBlocks: size }))
      return undefined;
    return recoveryJournalHeader.at.sequence.get(view, 0) === sequence ? bytes : undefined;
  }

  get head(): number {
    return Math.min(this.blockMapHead, this.slabJournalHead);
  }

  /**
   * Finds the end of the usable entries; null when there is nothing to replay.
   * Throws `VDO_CORRUPT_JOURNAL` when it lies before a head, and `VDO_UNSUPPORTED_VERSION` for a journal of the old format.
   */
  findTail(): JournalTail | null {
    if (!this.found) return null;
    const type = typeOf(this.#bytesAt(this.head));
    let tail: JournalTail = { sequence: this.head, entries: 0 };
    let any = false;
    for (let sequence = this.head; sequence <= this.highest; sequence++) {
      const block = this.block(sequence);
      if (block !== undefined && typeOf(block) !== type) {
        throw corruptJournal(`block ${sequence}`, "metadata type", type, typeOf(block));
      }
      const usable = block === undefined ? 0 : usableEntries(block);
      if (usable > 0) any = true;
      if (usable > 0) tail = { sequence, entries: usable };
      else if (!any) tail = { sequence, entries: 0 };
      if (block === undefined || usable < JOURNAL_ENTRIES_PER_BLOCK) break;
    }
    if (type === METADATA_TYPE.oldRecoveryJournal && any) throw oldJournal();
    for (const head of [this.blockMapHead, this.slabJournalHead]) {
      if (head > tail.sequence) throw corruptJournal("tail", "sequence number", `at least ${head}`, tail.sequence);
    }
    return any ? tail : null;
  }
}

function typeOf(block: Uint8Array | undefined): number {
  return block?.[recoveryJournalHeader.at.metadataType.offset] ?? METADATA_TYPE.recoveryJournal;
}

/** Entries at the front of `block` whose sectors are whole. */
export function usableEntries(block: Uint8Array): number {
  const view = new DataView(block.buffer, block.byteOffset, BLOCK_SIZE);
  const header = recoveryJournalHeader.at;
  const checkByte = header.checkByte.get(view, 0);
  const recoveryCount = header.recoveryCount.get(view, 0);
  const isOld = header.metadataType.get(view, 0) === METADATA_TYPE.oldRecoveryJournal;
  let left = header.entryCount.get(view, 0);
  let usable = 0;
  for (let sector = 1; sector < SECTORS_PER_BLOCK && left > 0; sector++) {
    const at = journalSectorAt(sector);
    const { checkByte: check, recoveryCount: count, entryCount } = journalSectorHeader.get(view, at);
    const capacity = isOld ? oldJournalSectorCapacity(sector) : JOURNAL_ENTRIES_PER_SECTOR;
    if (check !== checkByte || count !== recoveryCount || entryCount > capacity) break;
    const taken = Math.min(entryCount, left);
    left -= taken;
    usable += taken;
    if (taken < capacity) break;
  }
  return usable;
}

/** The error for a journal that no valid run leaves behind. */
export function corruptJournal(place: string, field: string, expected: unknown, actual: unknown): VdoError {
  return new VdoError(
    "VDO_CORRUPT_JOURNAL",
    `recovery journal, ${place}: ${field} is ${String(actual)}, expected ${String(expected)}; the volume can be read only, rebuild it (vdo forceRebuild)`,
    { structure: `recovery journal ${place}`, field, expected, actual },
  );
}

function oldJournal(): VdoError {
  return new VdoError(
    "VDO_UNSUPPORTED_VERSION",
    "the recovery journal is in the old format: recover the volume with the software that wrote it, or open it read-only here",
    {
      structure: "RecoveryJournal",
      field: "metadata type",
      expected: METADATA_TYPE.recoveryJournal,
      actual: METADATA_TYPE.oldRecoveryJournal,
    },
  );
}
