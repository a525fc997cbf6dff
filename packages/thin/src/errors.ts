/** Error codes of @vdo/thin. Damage found in metadata is `VDO_CORRUPT`; a pool that must not be changed is `VDO_THIN_MODE`. */

declare module "@vdo/base" {
  interface ErrorData {
    /** A device with this id exists already. */
    VDO_THIN_EXISTS: { device: number };
    /** There is no device with this id. */
    VDO_THIN_NOT_FOUND: { device: number };
    /** The device, or the metadata snapshot, is in use. */
    VDO_THIN_BUSY: { object: string };
    /** The pool's mode does not allow what was asked for. */
    VDO_THIN_MODE: { mode: string };
    /** A message, table line or option that has no meaning. */
    VDO_THIN_SYNTAX: { text: string };
    /** The metadata cannot be opened as asked: other block size, unknown features, devices too small. */
    VDO_THIN_MISMATCH: { field: string; expected: unknown; actual: unknown };
    /** A stream of `send` is cut off, damaged, or none: the byte at which that was found, and how. */
    VDO_THIN_STREAM: { place: number; text: string };
    /** The target does not hold what the stream changes; digests in hexadecimal. */
    VDO_THIN_BASE: { expected: string; actual: string };
  }
}

/** Keeps this module, and with it the codes, in what imports it. */
export const THIN_ERRORS = [
  "VDO_THIN_EXISTS",
  "VDO_THIN_NOT_FOUND",
  "VDO_THIN_BUSY",
  "VDO_THIN_MODE",
  "VDO_THIN_SYNTAX",
  "VDO_THIN_MISMATCH",
  "VDO_THIN_STREAM",
  "VDO_THIN_BASE",
] as const;
