/** Replays a slab journal into the reference counts of its slab (Linux 6.12, slab scrubbing). */
import { VdoError } from "@vdo/base";
import {
  BLOCK_SIZE,
  COUNTS_PER_SECTOR,
  SLAB_JOURNAL_ENTRIES_PER_BLOCK,
  SLAB_JOURNAL_FULL_ENTRIES_PER_BLOCK,
} from "../constants.ts";
import {
  isSlabJournalBlockMapEntry,
  isSlabJournalIncrement,
  METADATA_TYPE,
  readSlabJournalOffset,
  slabJournalHeader,
} from "../format/index.ts";
import { IO_META, type StorageIo } from "../io/storage-io.ts";
import type { CommitPoints } from "./reference-counts.ts";
import type { Slab } from "./slab.ts";
import type { SlabRules } from "./slab-context.ts";
import { SlabJournal } from "./slab-journal.ts";

export interface SlabReplay {
  slab: Slab;
  io: StorageIo;
  config: SlabRules;
  points: CommitPoints;
}

/**
 * Applies every entry that is newer than the commit point of the sector holding its count, so that a replay that was
 * interrupted, or counts that were torn, do no harm. Throws `VDO_CORRUPT` for a block or entry that cannot be right.
 */
export async function replaySlabJournal({ slab, io, config, points }: SlabReplay): Promise<void> {
  const size = config.slabJournalBlocks;
  const all = new Uint8Array(size * BLOCK_SIZE);
  await io.readMeta(IO_META, slab.journalOrigin, all, size);
  const { tail } = slab.journal;
  const blockAt = (sequence: number): Uint8Array => {
    const at = (sequence % size) * BLOCK_SIZE;
    return all.subarray(at, at + BLOCK_SIZE);
  };
  const head = tail > 1 ? slabJournalHeader.decode(blockAt(tail - 1)).head : tail;
  for (let sequence = head; sequence < tail; sequence++) {
    replayBlock({ slab, config, points, sequence, bytes: blockAt(sequence) });
  }
}

interface BlockReplay {
  slab: Slab;
  config: SlabRules;
  points: CommitPoints;
  sequence: number;
  bytes: Uint8Array;
}

function replayBlock({ slab, config, points, sequence, bytes }: BlockReplay): void {
  const header = slabJournalHeader.decode(bytes);
  const hasBlockMap = header.hasBlockMapIncrements !== 0;
  const capacity = hasBlockMap ? SLAB_JOURNAL_FULL_ENTRIES_PER_BLOCK : SLAB_JOURNAL_ENTRIES_PER_BLOCK;
  const refuse = (field: string, expected: unknown, actual: unknown): never => {
    throw SlabJournal.corrupt(slab.number, sequence, field, expected, actual);
  };
  if (header.nonce !== config.nonce) refuse("nonce", config.nonce, header.nonce);
  if (header.metadataType !== METADATA_TYPE.slabJournal)
    refuse("metadata type", METADATA_TYPE.slabJournal, header.metadataType);
  if (header.sequence !== sequence) refuse("sequence number", sequence, header.sequence);
  if (header.entryCount > capacity) refuse("entry count", `at most ${capacity}`, header.entryCount);
  for (let entry = 0; entry < header.entryCount; entry++) {
    const sbn = readSlabJournalOffset(bytes, entry);
    if (sbn >= config.dataBlocks) refuse(`offset of entry ${entry}`, `below ${config.dataBlocks}`, sbn);
    const place = Math.floor(sbn / COUNTS_PER_SECTOR);
    const covered = points.sequences[place] as number;
    if (sequence < covered || (sequence === covered && entry <= (points.entries[place] as number))) continue;
    const increment = isSlabJournalIncrement(bytes, entry);
    try {
      if (increment) slab.counts.increment(sbn, hasBlockMap && isSlabJournalBlockMapEntry(bytes, entry), null, true);
      else slab.counts.decrement(sbn, undefined);
    } catch (error) {
      throw new VdoError(
        "VDO_CORRUPT",
        `slab ${slab.number}, journal block ${sequence}, entry ${entry}: ${(error as Error).message}; rebuild the volume (vdo forceRebuild)`,
        {
          structure: `slab ${slab.number} journal block ${sequence}`,
          field: `entry ${entry}`,
          expected: "a count in its range",
          actual: sbn,
        },
        error,
      );
    }
    slab.counts.dirty(slab.counts.blockOf(sbn));
    slab.counts.pointSequence = sequence;
    slab.counts.pointEntry = entry;
  }
}
