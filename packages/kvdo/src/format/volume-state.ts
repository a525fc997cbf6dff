/** States of a volume as stored in its super block. */
import { VdoError } from "@vdo/base";
import type {} from "../errors.ts";

export const VOLUME_STATE = {
  /** In use, or not stopped cleanly: recovery is needed. */
  dirty: 0,
  /** Formatted, never started: summary and index are made at the first start. */
  new: 1,
  /** Stopped cleanly. */
  clean: 2,
  /** An unrecoverable error was met: nothing is written any more. */
  readOnly: 3,
  /** A read-only volume that is to be rebuilt. */
  forceRebuild: 4,
  /** Stopped cleanly while slabs were still being scrubbed. */
  recovering: 5,
  /** Written by very old releases only; treated as dirty. */
  replaying: 6,
  /** Set by upgrade tools: as `forceRebuild`, without counting it. */
  rebuildForUpgrade: 7,
} as const;
export type VolumeState = (typeof VOLUME_STATE)[keyof typeof VOLUME_STATE];

/** Names as the tools print them, by number. */
export const VOLUME_STATE_NAMES = [
  "DIRTY",
  "NEW",
  "CLEAN",
  "READ_ONLY_MODE",
  "FORCE_REBUILD",
  "RECOVERING",
  "REPLAYING",
  "REBUILD_FOR_UPGRADE",
] as const;
export type VolumeStateName = (typeof VOLUME_STATE_NAMES)[number];

/** Name of a state. Throws `VDO_CORRUPT` for a number that names none. */
export function volumeStateName(state: number): VolumeStateName {
  const name = VOLUME_STATE_NAMES[state];
  if (name !== undefined) return name;
  throw new VdoError("VDO_CORRUPT", `SuperBlock: state ${state} is unknown`, {
    structure: "SuperBlock",
    field: "state",
    expected: "0 to 7",
    actual: state,
  });
}
