/**
 * Errors of the commands, and the exit status that each class has.
 *
 * The classes and numbers are those of the legacy manager, so that scripts which look at `$?` go on working: 1 unspecific,
 * 2 option parsing (raised by the command line, never here), 4 internal inconsistency, 5 wrong state, 6 the system failed,
 * 7 user error.
 */
import { type ErrorCode, errorMessage, isVdoError, VdoError } from "@vdo/base";

declare module "@vdo/base" {
  interface ErrorData {
    /** A command failed without a more specific class. Exit status 1. */
    VDO_COMMAND_FAILED: { subject: string; nextStep?: string };
    /** The configuration holds something that no version of the manager writes. Exit status 4. */
    VDO_INCONSISTENT: { subject: string; nextStep?: string };
    /** The volume or the configuration is not in the state that the command needs. Exit status 5. */
    VDO_WRONG_STATE: { subject: string; nextStep?: string };
    /** A program or facility of the system failed or is missing. Exit status 6. */
    VDO_SYSTEM: { subject: string; nextStep?: string };
    /** The user asked for something impossible or not allowed. Exit status 7. */
    VDO_USER: { subject: string; nextStep?: string };
  }
}

/** Exit statuses by error code; every code that is not listed is status 1. */
const STATUS_BY_CODE: { readonly [code in ErrorCode]?: number } = {
  VDO_INCONSISTENT: 4,
  VDO_WRONG_STATE: 5,
  VDO_SYSTEM: 6,
  VDO_USER: 7,
};

/** Class of an exit status that another process reported; the reverse of {@link exitStatus}. */
const CODE_BY_STATUS: { readonly [status: number]: CommandErrorCode } = {
  4: "VDO_INCONSISTENT",
  5: "VDO_WRONG_STATE",
  6: "VDO_SYSTEM",
  7: "VDO_USER",
};

export type CommandErrorCode =
  | "VDO_COMMAND_FAILED"
  | "VDO_INCONSISTENT"
  | "VDO_WRONG_STATE"
  | "VDO_SYSTEM"
  | "VDO_USER";

/** Exit status of a failed command: 1, 4, 5, 6 or 7. */
export function exitStatus(error: unknown): number {
  const code = (error as { code?: unknown }).code;
  return typeof code === "string" ? (STATUS_BY_CODE[code as ErrorCode] ?? 1) : 1;
}

/** What happened, and what to do about it. */
export interface AdvisedText {
  text: string;
  nextStep: string;
}

export function advised(text: string, nextStep: string): AdvisedText {
  return { text, nextStep };
}

/** An error of class `code` about `subject` (a volume's name, a path); its data holds the next step, if there is one. */
export function commandError(
  code: CommandErrorCode,
  message: string | AdvisedText,
  subject = "",
  cause?: unknown,
): VdoError {
  if (typeof message === "string") return new VdoError(code, message, { subject }, cause);
  return new VdoError(code, message.text, { subject, nextStep: message.nextStep }, cause);
}

/** What to do about an error, where that is not in its message. */
export function nextStepOf(error: unknown): string | undefined {
  const nextStep = (error as { data?: { nextStep?: unknown } } | undefined)?.data?.nextStep;
  return typeof nextStep === "string" ? nextStep : undefined;
}

/** The error's message, and below it the next step: what scripts look for stays a line as it was. */
export function errorText(error: unknown): string {
  const nextStep = nextStepOf(error);
  return nextStep === undefined
    ? errorMessage(error)
    : `${errorMessage(error)}
      ${nextStep}`;
}

/** Why nobody can listen at an address, and what to do: for the errors of a server that begins to listen. */
export function listenReason(error: unknown, otherChoice: string): string {
  const reasons: Readonly<Record<string, string>> = {
    EADDRINUSE: `another program listens there. ${otherChoice}`,
    EADDRNOTAVAIL: `this machine has no such address. ${otherChoice}`,
    EACCES: `only root may listen on ports below 1024. ${otherChoice}`,
  };
  return reasons[errnoOf(error) ?? ""] ?? `${errorMessage(error)}. ${otherChoice}`;
}

/** The error that a daemon reported. */
export function errorFromStatus(
  { status, message, nextStep }: { status: number; message: string; nextStep?: string | undefined },
  subject: string,
): VdoError {
  const text = nextStep === undefined ? message : advised(message, nextStep);
  return commandError(CODE_BY_STATUS[status] ?? "VDO_COMMAND_FAILED", text, subject);
}

/** `errno` name of a system error, if it is one: `ENOENT`, `EACCES`, … */
export function errnoOf(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | undefined)?.code;
  if (typeof code === "string" && /^E[A-Z0-9]+$/.test(code)) return code;
  const cause = (error as { cause?: unknown } | undefined)?.cause;
  return cause === undefined ? undefined : errnoOf(cause);
}

/** What a user is told when `path` may not be used: names the object and the next step. */
export function accessError(error: unknown, path: string, command: string): VdoError {
  const errno = errnoOf(error);
  if (errno === "EACCES" || errno === "EPERM") {
    const text = `Permission denied: ${path}; you must be root, or have access to it, to use the "${command}" command`;
    return commandError("VDO_USER", text, path, error);
  }
  const reason = errno === "EISDIR" ? "it is a folder" : errorMessage(error);
  const text = reason.includes(path) ? reason : `Cannot use ${path}: ${reason}`;
  return commandError("VDO_USER", text, path, error);
}

/** What to do about a volume that cannot be opened, by error code, where the error itself does not say. */
const NEXT_STEPS: { readonly [code: string]: string } = {
  VDO_BAD_MAGIC: "Check that this is the right device; vdo create makes a new volume on it",
  VDO_CHECKSUM:
    "The metadata is damaged: restore the storage from a backup, or make a new volume with vdo create --force",
  VDO_CORRUPT:
    "The metadata is damaged: restore the storage from a backup, or make a new volume with vdo create --force",
  VDO_INCORRECT_COMPONENT: "The metadata is damaged or from another program: check that this is the right device",
  VDO_UNSUPPORTED_VERSION: "Another version of VDO made this volume: use that one, or convert the volume with it",
  VDO_BAD_LAYOUT: "The metadata is damaged, or the device is too small: check that it is the whole device",
  VDO_BAD_CONFIGURATION: "Check the options, and that this is the right device",
  VDO_PARAMETER_MISMATCH: "Check that the device is whole: it may have been shortened",
  VDO_IO: "Look for errors of the storage in the system's log",
};

/** An engine's error with its place before it, and its code and the next step behind it. Its code and data stay. */
export function placeError(error: unknown, place: string): unknown {
  if (!isVdoError(error) || CLASSES.has(error.code)) return error;
  const isBlank = isVdoError(error, "VDO_UNSUPPORTED_VERSION") && error.data.actual === "0.0";
  const next = isBlank ? BLANK_METADATA : NEXT_STEPS[error.code];
  const text = `${place}: ${error.message} (${error.code})${next === undefined ? "" : `. ${next}`}`;
  return new VdoError(error.code, text, error.data, error);
}

/** Nothing writes version 0.0: these are zeros. */
const BLANK_METADATA =
  "Nothing is stored there: the storage was cut short and lengthened again, or overwritten. Restore it from a backup";

/** Codes of this package, whose texts say everything already. */
const CLASSES: ReadonlySet<string> = new Set(["VDO_COMMAND_FAILED", ...Object.values(CODE_BY_STATUS)]);
