/** Codes of NBD errors, and the mapping between NBD error values and {@link VdoError} codes. */
import { isVdoError, VdoError } from "@vdo/base";
import { NBD_ERROR } from "./protocol/constants.ts";

declare module "@vdo/base" {
  interface ErrorData {
    /** The peer broke the NBD protocol. `place` names the message and field. */
    VDO_NBD_PROTOCOL: { place: string; expected: unknown; actual: unknown };
    /** The server refused something during the handshake. `reply` is the option reply type, 0 when it just closed. */
    VDO_NBD_REFUSED: { option: string; reply: number };
    /** Something else listens on the address. */
    VDO_ADDRESS_IN_USE: { address: string };
  }
}

/** The NBD error value that tells a client about `error`. */
export function nbdErrorOf(error: unknown): number {
  if (!isVdoError(error)) return NBD_ERROR.EIO;
  switch (error.code) {
    case "VDO_NO_SPACE":
      return NBD_ERROR.ENOSPC;
    case "VDO_READ_ONLY":
      return NBD_ERROR.EPERM;
    case "VDO_OUT_OF_RANGE":
    case "VDO_BAD_ARGUMENT":
      return NBD_ERROR.EINVAL;
    case "VDO_CLOSED":
      return NBD_ERROR.ESHUTDOWN;
    default:
      return NBD_ERROR.EIO;
  }
}

const TEXTS: Record<number, string> = {
  [NBD_ERROR.EPERM]: "the export is read-only",
  [NBD_ERROR.EIO]: "the storage reported an error",
  [NBD_ERROR.EINVAL]: "invalid request",
  [NBD_ERROR.ENOSPC]: "no space is left",
  [NBD_ERROR.EOVERFLOW]: "the request is too large",
  [NBD_ERROR.ENOTSUP]: "zeroing would not be fast here",
  [NBD_ERROR.ESHUTDOWN]: "the server is shutting down",
};

/** A text for clients: it names the kind of failure, never a path of the host. */
export function nbdErrorText(error: number): string {
  return TEXTS[error] ?? "error";
}

/** The `VdoError` for an error value a server answered with. `block` is in units of the device's blocks. */
export function vdoErrorOf(
  value: number,
  text: string,
  operation: "read" | "write" | "flush" | "discard",
  block: number,
): VdoError {
  const why = text === "" ? `error ${value}` : `${text} (error ${value})`;
  switch (value) {
    case NBD_ERROR.ENOSPC:
      return new VdoError("VDO_NO_SPACE", `NBD ${operation} at block ${block}: the server has no space: ${why}`, {
        blocksFree: 0,
      });
    case NBD_ERROR.EPERM:
      return new VdoError("VDO_READ_ONLY", `NBD ${operation} at block ${block}: not permitted: ${why}`, {
        object: "NBD export",
      });
    default:
      return new VdoError("VDO_IO", `NBD ${operation} at block ${block} failed: ${why}`, { operation, block });
  }
}
