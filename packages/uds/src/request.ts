/** A request to the index: pooled by the caller, used again after `onDone`. */
import { NAME_BYTES, VALUE_BYTES } from "./constants.ts";

/** What a request asks for. The figures are those of Linux 6.12. */
export const UdsOperation = {
  /** Bind the name to the new value and make it most recent. */
  UPDATE: 0,
  /** Report the old value; if found, make the record most recent. */
  QUERY: 1,
  /** If found, report the old value and make the record most recent; else bind the name to the new value. */
  POST: 2,
  /** Report the old value, change nothing. */
  QUERY_NO_UPDATE: 3,
  /** Forget the name. */
  DELETE: 4,
} as const;
export type UdsOperation = (typeof UdsOperation)[keyof typeof UdsOperation];

/** Where a record was found. */
export const RecordLocation = { NOWHERE: 0, OPEN_CHAPTER: 1, DENSE: 2, SPARSE: 3 } as const;
export type RecordLocation = (typeof RecordLocation)[keyof typeof RecordLocation];

function ignore(): void {}

export class UdsRequest {
  /** The 16-byte record name, set by the caller. */
  readonly name: Uint8Array;
  /** The new value (16 bytes), set by the caller for POST and UPDATE. */
  readonly value: Uint8Array;
  /** The value found (16 bytes); meaningful when `found`. */
  readonly oldValue: Uint8Array;
  operation: UdsOperation = UdsOperation.POST;
  found = false;
  /** Where the record was found, for statistics. */
  location: RecordLocation = RecordLocation.NOWHERE;
  /** A `VdoError` when the request failed, else undefined. A failed request means "no advice". */
  error: unknown = undefined;
  /** Called once per submission, at once or later. The request may be submitted again from within. */
  onDone: (request: UdsRequest) => void = ignore;
  /** Anything the caller wants to find again in `onDone`. */
  context: unknown = undefined;

  /** True from submission until `onDone`: the request must be left alone. */
  pending = false;

  /** Internal: name, value and old value as 32-bit words. */
  readonly words: Uint32Array;
  /** Internal: next request in the queue that this one waits in. */
  next: UdsRequest | undefined = undefined;
  /** Internal: request of the same lane that must run after this one. */
  laneNext: UdsRequest | undefined = undefined;
  /** Internal: closed chapter that was searched already, -1 for none. */
  searchChapter = -1;
  /** Internal: record page that its index named, -1 when the name is not there. */
  searchPage = -1;

  constructor() {
    const memory = new ArrayBuffer(NAME_BYTES + 2 * VALUE_BYTES);
    this.name = new Uint8Array(memory, 0, NAME_BYTES);
    this.value = new Uint8Array(memory, NAME_BYTES, VALUE_BYTES);
    this.oldValue = new Uint8Array(memory, NAME_BYTES + VALUE_BYTES, VALUE_BYTES);
    this.words = new Uint32Array(memory);
  }
}
