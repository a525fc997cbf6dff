/** Failures of metadata operations, after which the transaction is dropped. */
import { isVdoError } from "@vdo/base";

/** The transaction cannot go on after such an error of a metadata operation. */
export function endsTransaction(error: unknown): boolean {
  return !isVdoError(error, "VDO_CLOSED") && !isVdoError(error, "VDO_THIN_NOT_FOUND");
}

/** A metadata operation that failed inside the gate: the transaction is dropped by whoever has left it. */
export class MetadataFailure extends Error {
  readonly operation: string;

  constructor(operation: string, cause: unknown) {
    super(operation, { cause });
    this.operation = operation;
  }
}

/** Runs a metadata operation; its failures come as {@link MetadataFailure}. */
export async function metadataOperation<T>(operation: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    throw endsTransaction(error) ? new MetadataFailure(operation, error) : error;
  }
}
