/** The recovery journal's part of a super block. */
import { struct, u64le, type ValueOf } from "@vdo/base";
import { componentHeader } from "./component-header.ts";

export const recoveryJournalComponent = struct("RecoveryJournalComponent", 44, {
  header: componentHeader,
  /** Sequence number: blocks before it are never replayed; after a clean stop the next one to be written. */
  journalStart: u64le,
  /** Logical blocks with a mapping, zero blocks included, as of the last save. */
  logicalBlocksUsed: u64le,
  /** Block map pages allocated from slabs: leaves and interior pages, without the roots. */
  blockMapDataBlocks: u64le,
});
export type RecoveryJournalComponent = ValueOf<typeof recoveryJournalComponent>;

export const RECOVERY_JOURNAL_HEADER = { id: 2, version: { major: 7, minor: 0 }, size: 24 };
