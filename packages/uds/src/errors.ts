/** Error codes of the index, added to those of `@vdo/base`. Damage to a structure is `VDO_CORRUPT`, as everywhere. */
import { VdoError } from "@vdo/base";

declare module "@vdo/base" {
  interface ErrorData {
    /** The storage holds no index. Next step: create one. */
    UDS_NO_INDEX: { block: number };
    /** There is an index, but it was made with other parameters. Next step: open it with those, or create a new one. */
    UDS_CONFIGURATION_MISMATCH: { field: string; expected: unknown; actual: unknown };
    /** The memory size or geometry asked for is none that an index can have. */
    UDS_BAD_CONFIGURATION: { field: string; value: unknown };
    /** There is no usable save; opening with `rebuild: true` reads the chapters instead. */
    UDS_NOT_SAVED: { reason: string };
    /** An index of a version that is not supported; it is left untouched. */
    UDS_UNSUPPORTED_VERSION: { structure: string; version: number };
    /** Opening, suspending or suspended: try again later. */
    UDS_BUSY: { state: string };
    /** An earlier failure disabled the index. Next step: close it and open it again. */
    UDS_DISABLED: Record<never, never>;
    /** Opening was stopped on request. */
    UDS_STOPPED: { chapter: number };
    /** The device is too small for the index. Units: blocks of 4096 bytes. */
    UDS_TOO_SMALL: { blocksNeeded: number; blocksAvailable: number };
  }
}

export function corrupt(
  structure: string,
  field: string,
  { expected, actual }: { expected: unknown; actual: unknown },
): VdoError<"VDO_CORRUPT"> {
  return new VdoError(
    "VDO_CORRUPT",
    `${structure}: ${field} is ${String(actual)}, expected ${String(expected)}; the index can be rebuilt or made anew`,
    { structure, field, expected, actual },
  );
}

export function notSaved(reason: string, cause?: unknown): VdoError<"UDS_NOT_SAVED"> {
  return new VdoError("UDS_NOT_SAVED", `the index was not saved cleanly: ${reason}; rebuild it`, { reason }, cause);
}
