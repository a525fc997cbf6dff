/** Codes of ploop errors, and short ways to throw them. */
import { VdoError } from "@vdo/base";

/** Linux errno names with which the kernel target answers. */
export type Errno =
  | "E2BIG"
  | "EACCES"
  | "EAGAIN"
  | "EBADF"
  | "EBADSLT"
  | "EBUSY"
  | "EEXIST"
  | "EFAULT"
  | "EFBIG"
  | "EINVAL"
  | "EIO"
  | "EMFILE"
  | "ENODATA"
  | "ENOENT"
  | "ENOLCK"
  | "ENOSPC"
  | "ENOTSUPP"
  | "EPROTO"
  | "EROFS"
  | "ESTALE"
  | "EXDEV";

declare module "@vdo/base" {
  interface ErrorData {
    /** An operation on a device, image or disk that its state or its arguments do not allow. */
    VDO_PLOOP_REFUSED: { operation: string; errno: Errno };
    /** The image was not closed, or somebody has it open for writing. */
    VDO_PLOOP_DIRTY: { image: string };
  }
}

export function refused(operation: string, errno: Errno, why: string): VdoError<"VDO_PLOOP_REFUSED"> {
  return new VdoError("VDO_PLOOP_REFUSED", `${operation}: ${why} (${errno})`, { operation, errno });
}

/** `place` is an image's name, with the part of it where that helps. */
export function corrupt(place: string, field: string, expected: unknown, actual: unknown): VdoError<"VDO_CORRUPT"> {
  const text = `${place}: ${field} is ${String(actual)}, expected ${String(expected)}; run a check of the image`;
  return new VdoError("VDO_CORRUPT", text, { structure: place, field, expected, actual });
}

export function dirty(image: string): VdoError<"VDO_PLOOP_DIRTY"> {
  const text = `${image}: the dirty flag is set: it is in use, or was not closed; stop its user, or check it`;
  return new VdoError("VDO_PLOOP_DIRTY", text, { image });
}

export function badArgument(argument: string, value: unknown, why: string): VdoError<"VDO_BAD_ARGUMENT"> {
  return new VdoError("VDO_BAD_ARGUMENT", `${argument}: ${why}`, { argument, value });
}
