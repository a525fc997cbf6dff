/** Error codes of the library, added to those of `@vdo/base`. Damage to a structure is `VDO_CORRUPT`, as everywhere. */
import { VdoError } from "@vdo/base";

declare module "@vdo/base" {
  interface ErrorData {
    /** An earlier change failed midway; the open transaction can only be aborted. Next step: `abort`, reopen the roots. */
    PD_POISONED: { reason: string };
    /** A count was lowered below zero, or a count of a block outside the map was asked for. Units: blocks of the map. */
    PD_BAD_COUNT: { map: string; block: number };
    /** The space map cannot describe so many blocks. */
    PD_MAP_TOO_LARGE: { blocks: number; blocksMax: number };
  }
}

/** A structure that is not as it must be. `structure` says where it is: the path that led to it. */
export function corrupt(
  structure: string,
  field: string,
  { expected, actual }: { expected: unknown; actual: unknown },
): VdoError<"VDO_CORRUPT"> {
  return new VdoError(
    "VDO_CORRUPT",
    `${structure}: ${field} is ${String(actual)}, expected ${String(expected)}; restore the metadata from a dump or a backup`,
    { structure, field, expected, actual },
  );
}
