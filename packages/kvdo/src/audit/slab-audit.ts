/** Compares what the slabs of a volume say of their blocks with the references that were counted. */
import { BLOCK_SIZE, COUNTS_PER_BLOCK, COUNTS_PER_SECTOR, SECTOR_SIZE, SECTORS_PER_BLOCK } from "../constants.ts";
import {
  decodeSummaryEntry,
  findPartition,
  fullnessHint,
  fullnessHintShift,
  METADATA_TYPE,
  PARTITION,
  REFERENCE_COUNTS_AT,
  readCommitPoint,
  type SlabSummaryEntry,
  type SuperBlock,
  slabJournalHeader,
  summaryEntryAt,
  usedReferenceBlocks,
} from "../format/index.ts";
import type { Findings } from "./audit-report.ts";
import { REFERENCES_MAX, type ReferenceTable, TREE_PAGE } from "./reference-table.ts";

/** Blocks of one zone's part of the slab summary. */
const SUMMARY_BLOCKS = 4;
/** Zones whose parts the summary holds. */
const SUMMARY_ZONES = 16;
/** A count that only a running volume gives: on storage it is none. */
const PROVISIONAL = 255;

export interface SlabAuditOptions {
  read: (pbn: number, target: Uint8Array) => Promise<void>;
  superBlock: SuperBlock;
  references: ReferenceTable;
  findings: Findings;
  /** The volume was stopped cleanly: journals and counts must agree too. */
  isClean: boolean;
}

/** Audits every slab, in order. Throws what the storage throws. */
export async function auditSlabs(options: SlabAuditOptions): Promise<void> {
  const summary = await readSummary(options);
  for (let slab = 0; slab < options.references.slabs; slab++) {
    const entry = summary(slab);
    const free = entry.loadCounts ? await compareCounts(options, slab) : compareUnused(options, slab);
    checkHint(options, slab, entry, free);
    if (options.isClean) await checkJournal(options, slab, entry);
  }
}

/** The entry of each slab is in the part of its zone, as the zones were when the summary was written. */
async function readSummary({ read, superBlock }: SlabAuditOptions): Promise<(slab: number) => SlabSummaryEntry> {
  const { start } = findPartition(superBlock.layout, PARTITION.slabSummary);
  const zones = Math.min(Math.max(1, superBlock.slabDepot.zoneCount), SUMMARY_ZONES);
  const parts = Array.from({ length: zones }, () => new Uint8Array(SUMMARY_BLOCKS * BLOCK_SIZE));
  for (const [zone, part] of parts.entries()) await read(start + zone * SUMMARY_BLOCKS, part);
  return (slab) => decodeSummaryEntry(parts[slab % zones] as Uint8Array, summaryEntryAt(slab));
}

/** A slab whose counts were never written: everything in it is free. */
function compareUnused({ references, findings }: SlabAuditOptions, slab: number): number {
  const counted = references.ofSlab(slab);
  const start = references.startOf(slab);
  for (let sbn = 0; counted !== undefined && sbn < references.dataBlocks; sbn++) {
    if (counted[sbn] !== 0) findings.badCount({ slab, start, sbn }, counted[sbn] as number, 0, false);
  }
  return references.dataBlocks;
}

/** Compares stored counts with counted ones; returns the free blocks by the stored ones. */
async function compareCounts({ read, references, findings }: SlabAuditOptions, slab: number): Promise<number> {
  const start = references.startOf(slab);
  const block = new Uint8Array(BLOCK_SIZE);
  const counted = references.ofSlab(slab);
  let free = 0;
  for (let first = 0; first < references.dataBlocks; first += COUNTS_PER_BLOCK) {
    await read(start + references.dataBlocks + first / COUNTS_PER_BLOCK, block);
    const end = Math.min(references.dataBlocks - first, COUNTS_PER_BLOCK);
    for (let i = 0; i < end; i++) {
      const sector = Math.floor(i / COUNTS_PER_SECTOR);
      const stored = block[sector * SECTOR_SIZE + REFERENCE_COUNTS_AT + (i % COUNTS_PER_SECTOR)] as number;
      const expected = counted === undefined ? 0 : (counted[first + i] as number);
      if (stored === 0 || stored === PROVISIONAL) free++;
      if (!agrees(stored, expected)) findings.badCount({ slab, start, sbn: first + i }, expected, stored, true);
    }
  }
  return free;
}

/** A page may carry one reference or the most there can be; a provisional count is none. */
function agrees(stored: number, counted: number): boolean {
  if (counted === TREE_PAGE) return stored === 1 || stored === REFERENCES_MAX;
  return stored === counted || (counted === 0 && stored === PROVISIONAL);
}

function checkHint(
  { superBlock, findings }: SlabAuditOptions,
  slab: number,
  entry: SlabSummaryEntry,
  free: number,
): void {
  const shift = fullnessHintShift(superBlock.slabDepot.slabConfig.slabBlocks);
  const unit = 2 ** shift;
  const roughly = entry.fullnessHint * unit;
  if (free < Math.max(roughly, unit) - unit || free >= roughly + unit) findings.badHint(slab, roughly, free);
  else if (entry.fullnessHint !== fullnessHint(free, shift)) {
    findings.note(`slab ${slab}: hint ${entry.fullnessHint}, not ${fullnessHint(free, shift)}`);
  }
  if (entry.isDirty) findings.note(`slab ${slab} is dirty in the summary`);
}

/** The newest block of a slab's journal must be where the summary says, and no count may be newer than it. */
async function checkJournal(
  { read, superBlock, references, findings }: SlabAuditOptions,
  slab: number,
  entry: SlabSummaryEntry,
): Promise<void> {
  if (!entry.loadCounts && entry.tailOffset === 0) return;
  const { slabConfig } = superBlock.slabDepot;
  const size = slabConfig.slabJournalBlocks;
  const offset = (entry.tailOffset + size - 1) % size;
  const counts = references.startOf(slab) + references.dataBlocks;
  const bytes = new Uint8Array(BLOCK_SIZE);
  await read(counts + slabConfig.referenceCountBlocks + offset, bytes);
  const view = new DataView(bytes.buffer);
  const at = slabJournalHeader.at;
  const isOurs =
    at.metadataType.get(view, 0) === METADATA_TYPE.slabJournal &&
    at.nonce.get(view, 0) === superBlock.vdo.nonce &&
    view.getUint16(at.sequence.offset + 6, true) === 0;
  // A rebuild leaves an erased journal, whose next block is the first.
  if (!isOurs && entry.tailOffset === 0) return;
  const sequence = isOurs ? at.sequence.get(view, 0) : -1;
  if (!isOurs || sequence % size !== offset) {
    findings.ownProblem("journal", `slab ${slab}: the newest block of its journal is not where the summary says`);
    return;
  }
  if (!entry.loadCounts) return;
  const points = { sequences: new Float64Array(SECTORS_PER_BLOCK), entries: new Uint16Array(SECTORS_PER_BLOCK) };
  const blocks = usedReferenceBlocks(slabConfig);
  for (let block = 0; block < blocks; block++) {
    await read(counts + block, bytes);
    for (let sector = 0; sector < SECTORS_PER_BLOCK; sector++) {
      readCommitPoint(bytes, sector * SECTOR_SIZE, points, sector);
      if ((points.sequences[sector] as number) <= sequence) continue;
      findings.ownProblem("journal", `slab ${slab}: reference block ${block} is newer than the slab's journal`);
    }
  }
}
