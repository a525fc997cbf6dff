/**
 * An audit of a volume on storage, written independently of the engine: nothing of it is used but the layouts. The block map
 * is walked, references are counted anew and compared with the stored counts, totals and hints; then journals and summary are
 * looked at, which `vdoaudit` does not do. Nothing is written. Memory: a byte for each data block of the used slabs.
 */
import type { BlockDevice } from "@vdo/block-device";
import { BLOCK_SIZE } from "../constants.ts";
import {
  checkConfiguration,
  decodeGeometryBlock,
  decodeSuperBlock,
  findPartition,
  isJournalBlockValid,
  PARTITION,
  recoveryJournalHeader,
  type SuperBlock,
  VOLUME_STATE,
  volumeStateName,
} from "../format/index.ts";
import { type AuditOptions, Findings, type VolumeAudit } from "./audit-report.ts";
import { BlockMapWalk } from "./block-map-walk.ts";
import { ReferenceTable } from "./reference-table.ts";
import { auditSlabs } from "./slab-audit.ts";

/** Journal blocks read by one request. */
const BLOCKS_PER_READ = 256;

type ReadBlocks = (pbn: number, target: Uint8Array) => Promise<void>;

/**
 * Audits the volume on `device`, which must not be running. The lines and the status are those of `vdoaudit`; `problems` holds
 * what it finds and more. Throws `VDO_BAD_MAGIC`, `VDO_CHECKSUM`, `VDO_UNSUPPORTED_VERSION` and the like for what is no sound
 * volume, and what the device throws.
 */
export async function auditVolume(device: BlockDevice, options: AuditOptions = {}): Promise<VolumeAudit> {
  const { superBlock, read } = await load(device);
  const findings = new Findings(options);
  const references = new ReferenceTable(superBlock.slabDepot);
  const state = volumeStateName(superBlock.vdo.state);
  const onMapping = options.onMapping ?? (() => undefined);
  const walk = new BlockMapWalk({ read, superBlock, references, findings, onMapping });
  const isClean = superBlock.vdo.state === VOLUME_STATE.clean;
  let isMatched = false;
  if (superBlock.vdo.state === VOLUME_STATE.new) {
    findings.warn("The VDO volume is newly formatted and has no auditable state");
  } else {
    if (!isClean) findings.warn(`WARNING: The VDO was not cleanly shut down (it has state '${state}')`);
    isMatched = await compareAll({ read, superBlock, references, findings, isClean }, walk);
  }
  if (isMatched) findings.allMatched();
  else findings.summary();
  return {
    state,
    exitStatus: isMatched ? 0 : 1,
    logicalBlocks: { stated: superBlock.recoveryJournal.logicalBlocksUsed, counted: walk.logicalBlocks },
    pages: { stated: superBlock.recoveryJournal.blockMapDataBlocks, counted: walk.pages },
    mappingErrors: findings.mappingErrors,
    hintErrors: findings.hintErrors,
    countErrors: findings.countErrors,
    errorSlabs: findings.errorSlabs,
    problems: findings.problems,
    ownProblems: findings.ownProblems,
    notes: findings.notes,
    lines: findings.lines,
    references,
  };
}

async function load(device: BlockDevice): Promise<{ superBlock: SuperBlock; read: ReadBlocks }> {
  const block = new Uint8Array(BLOCK_SIZE);
  await device.read(0, block);
  const geometry = decodeGeometryBlock(block);
  const read: ReadBlocks = (pbn, target) => device.read(pbn - geometry.bioOffset, target);
  await read(geometry.dataStart, block);
  const superBlock = decodeSuperBlock(block);
  checkConfiguration(superBlock, geometry, device.blockCount);
  return { superBlock, read };
}

interface Compared {
  read: ReadBlocks;
  superBlock: SuperBlock;
  references: ReferenceTable;
  findings: Findings;
  isClean: boolean;
}

/** True when everything that `vdoaudit` compares is the same. */
async function compareAll(compared: Compared, walk: BlockMapWalk): Promise<boolean> {
  const { superBlock, findings, isClean } = compared;
  if (!(await walk.run())) return false;
  const { logicalBlocksUsed, blockMapDataBlocks } = superBlock.recoveryJournal;
  const isMatch = walk.logicalBlocks === logicalBlocksUsed;
  if (isMatch) findings.warn(`Logical block count matched at ${logicalBlocksUsed}`);
  else {
    const text = `Logical block count mismatch! Expected ${logicalBlocksUsed}, got ${walk.logicalBlocks}`;
    findings.warn(text);
    findings.problem("total", text);
  }
  if (isClean && walk.pages !== blockMapDataBlocks) {
    findings.ownProblem(
      "pages",
      `the super block counts ${blockMapDataBlocks} block map pages, there are ${walk.pages}`,
    );
  }
  await auditSlabs(compared);
  if (isClean) await checkRecoveryJournal(compared);
  return isMatch && findings.countErrors === 0 && findings.hintErrors === 0;
}

/** A volume that was stopped cleanly has no journal block from its next start on. */
async function checkRecoveryJournal({ read, superBlock, findings }: Compared): Promise<void> {
  const { vdo, recoveryJournal } = superBlock;
  const { start, count: journalBlocks } = findPartition(superBlock.layout, PARTITION.recoveryJournal);
  const step = Math.min(BLOCKS_PER_READ, journalBlocks);
  const chunk = new Uint8Array(step * BLOCK_SIZE);
  for (let first = 0; first < journalBlocks; first += step) {
    await read(start + first, chunk);
    for (let i = 0; i < step; i++) {
      const view = new DataView(chunk.buffer, i * BLOCK_SIZE, BLOCK_SIZE);
      const expected = { nonce: vdo.nonce, recoveryCount: vdo.completeRecoveries % 256, journalBlocks };
      if (!isJournalBlockValid(view, { ...expected, position: first + i })) continue;
      const sequence = recoveryJournalHeader.at.sequence.get(view, 0);
      if (sequence < recoveryJournal.journalStart) continue;
      findings.ownProblem(
        "journal",
        `recovery journal block ${sequence} is there, and the journal begins at ${recoveryJournal.journalStart}`,
      );
    }
  }
}
