/** What a pool is able to do, as a table of moves. Source of fact: Linux 6.12, thin-pool target. */
import { invariant } from "@vdo/base";

export const POOL_MODE_MOVES = {
  write: {
    out_of_data_space: "no data block is free after a commit",
    out_of_metadata_space: "no metadata block is free beyond the reserve after a commit",
    read_only: "a metadata operation failed, or the table says so",
    fail: "the transaction cannot be dropped, or needs_check cannot be recorded",
  },
  out_of_data_space: {
    write: "data blocks are free again, or a table was loaded",
    out_of_metadata_space: "no metadata block is free beyond the reserve after a commit",
    read_only: "a metadata operation failed, or the table says so",
    fail: "the transaction cannot be dropped, or needs_check cannot be recorded",
  },
  out_of_metadata_space: {
    write: "the metadata device has grown, or a table was loaded",
    read_only: "a metadata operation failed, or the table says so",
    fail: "the transaction cannot be dropped, or needs_check cannot be recorded",
  },
  read_only: {
    write: "a table that does not say read_only was loaded, and needs_check is clear",
    fail: "the transaction cannot be dropped, or needs_check cannot be recorded",
  },
  fail: {},
} as const satisfies Record<string, Record<string, string>>;

export type PoolMode = keyof typeof POOL_MODE_MOVES;

/** `to`, if the table has the move. */
export function movePoolMode(from: PoolMode, to: PoolMode): PoolMode {
  invariant(Object.hasOwn(POOL_MODE_MOVES[from], to), "the move of the pool's mode is in the table");
  return to;
}

/** The mode as the kernel's log calls it. */
export function modeText(mode: PoolMode, errorsIfFull: boolean): string {
  if (mode === "out_of_data_space") return `out-of-data-space (${errorsIfFull ? "error" : "queue"} IO)`;
  if (mode === "out_of_metadata_space") return "read-only";
  return mode === "read_only" ? "read-only" : mode;
}

/** True when metadata may be changed. */
export function acceptsChanges(mode: PoolMode): boolean {
  return mode === "write" || mode === "out_of_data_space";
}
