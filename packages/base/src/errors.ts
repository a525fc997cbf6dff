/**
 * Errors with codes.
 *
 * One class, {@link VdoError}: the `code` is the API, the `data` is typed by the code. Packages add their own codes by
 * declaration merging (`declare module "@vdo/base" { interface ErrorData { … } }`). A bug throws `VDO_INVARIANT`; whatever
 * the disk, the user or a peer can cause has a code of its own, names the place, and says the next step in its message.
 */

/** Data carried by each error code. Extend by declaration merging. */
export interface ErrorData {
  /** A bug: something that must hold does not. */
  VDO_INVARIANT: Record<never, never>;
  /** A value given by the caller is outside its range. */
  VDO_BAD_ARGUMENT: { argument: string; value: unknown };
  /** A structure read from storage is damaged or of an unknown kind. */
  VDO_CORRUPT: { structure: string; field: string; expected: unknown; actual: unknown };
  /** The storage reported a failure. `block` is in units of the device's block size. */
  VDO_IO: { operation: "read" | "write" | "flush" | "discard" | "open"; block: number };
  /** A request lies outside the device. Units: the device's blocks. */
  VDO_OUT_OF_RANGE: { start: number; count: number; blockCount: number };
  /** There is no free space left. */
  VDO_NO_SPACE: { blocksFree: number };
  /** The object was closed. */
  VDO_CLOSED: { object: string };
  /** A write reached something that accepts none. */
  VDO_READ_ONLY: { object: string };
}

export type ErrorCode = keyof ErrorData;

/** The one error class of all @vdo packages. Test for it with {@link isVdoError}, which works across installed copies. */
export class VdoError<C extends ErrorCode = ErrorCode> extends Error {
  override readonly name = "VdoError";
  readonly code: C;
  readonly data: ErrorData[C];

  constructor(code: C, message: string, data: ErrorData[C], cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.data = data;
  }
}

/** True when `error` is a {@link VdoError}, of code `code` if one is given. */
export function isVdoError<C extends ErrorCode>(error: unknown, code?: C): error is VdoError<C> {
  if (!(error instanceof Error) || error.name !== "VdoError") return false;
  return code === undefined || (error as { code?: unknown }).code === code;
}

/** Throws `VDO_INVARIANT` unless `condition` holds. `text` is constant, so that a passing check costs one branch. */
export function invariant(condition: boolean, text: string): asserts condition {
  if (!condition) throw new VdoError("VDO_INVARIANT", `bug: it does not hold that ${text}`, {});
}

/** Message of anything that was thrown. */
export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
