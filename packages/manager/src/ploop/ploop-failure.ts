/** Errors of ploop on the control socket: as results, so that code and facts arrive with the text. */
import { type ErrorCode, type ErrorData, isVdoError, VdoError } from "@vdo/base";

const CODES = [
  "VDO_PLOOP_REFUSED",
  "VDO_PLOOP_DIRTY",
  "VDO_CORRUPT",
  "VDO_IO",
  "VDO_NO_SPACE",
  "VDO_BAD_ARGUMENT",
] as const;

interface PloopFailure {
  ploopFailure: { code: ErrorCode; message: string; data: ErrorData[ErrorCode] };
}

/** Undefined for errors that are not ploop's. */
export function toPloopFailure(error: unknown): PloopFailure | undefined {
  const code = CODES.find((one) => isVdoError(error, one));
  if (code === undefined) return undefined;
  const { message, data } = error as VdoError;
  return { ploopFailure: { code, message, data } };
}

/** A daemon's answer; throws the error that it is. */
export function fromPloopAnswer(answer: unknown): unknown {
  const failed = (answer as Partial<PloopFailure> | null)?.ploopFailure;
  if (failed === undefined) return answer;
  throw new VdoError(failed.code, failed.message, failed.data);
}
