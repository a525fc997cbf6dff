/** Many requests of one kind, through a small pool, with a turn of the event loop between parts. */
import { VdoError } from "@vdo/base";
import { NAME_BYTES, VALUE_BYTES } from "./constants.ts";
import { type UdsOperation, UdsRequest } from "./request.ts";
import { nextTurn } from "./turn.ts";

/** Requests under way at the same time. */
const POOL = 512;
/** Requests submitted before other work of the event loop gets its turn. */
const SLICE = 4096;

export interface BatchResult {
  /** Per record 1 when it was known, else 0. */
  readonly found: Uint8Array;
  /** 16 bytes per record: the value known before, zeros when there was none. */
  readonly oldValues: Uint8Array;
  /** Number of records known. */
  readonly foundCount: number;
}

export interface BatchOptions {
  readonly operation: UdsOperation;
  readonly names: Uint8Array;
  readonly values: Uint8Array | undefined;
}

export class RequestBatch {
  readonly #submit: (request: UdsRequest) => void;
  readonly #options: BatchOptions;
  readonly #count: number;
  readonly #found: Uint8Array;
  readonly #oldValues: Uint8Array;
  readonly #free: UdsRequest[] = [];
  #foundCount = 0;
  #error: unknown;
  #waiter: (() => void) | undefined;

  constructor(submit: (request: UdsRequest) => void, options: BatchOptions) {
    this.#submit = submit;
    this.#options = options;
    this.#count = options.names.length / NAME_BYTES;
    const lengthsAgree = options.values === undefined || options.values.length === options.names.length;
    if (!Number.isInteger(this.#count) || !lengthsAgree) {
      throw new VdoError("VDO_BAD_ARGUMENT", "names and values must hold 16 bytes per record each", {
        argument: "names",
        value: options.names.length,
      });
    }
    this.#found = new Uint8Array(this.#count);
    this.#oldValues = new Uint8Array(this.#count * VALUE_BYTES);
  }

  /** Runs all requests; rejects with the first error. */
  async run(): Promise<BatchResult> {
    const onDone = (request: UdsRequest): void => this.#done(request);
    const pool = Math.min(POOL, this.#count);
    for (let i = 0; i < pool; i++) {
      const request = new UdsRequest();
      request.operation = this.#options.operation;
      request.onDone = onDone;
      this.#free.push(request);
    }
    for (let record = 0; record < this.#count && this.#error === undefined; record++) {
      if (record % SLICE === SLICE - 1) await nextTurn();
      while (this.#free.length === 0) await this.#change();
      this.#send(this.#free.pop() as UdsRequest, record);
    }
    while (this.#free.length < pool) await this.#change();
    if (this.#error !== undefined) throw this.#error;
    return { found: this.#found, oldValues: this.#oldValues, foundCount: this.#foundCount };
  }

  #change(): Promise<void> {
    return new Promise((resolve) => {
      this.#waiter = resolve;
    });
  }

  #send(request: UdsRequest, record: number): void {
    const { names, values } = this.#options;
    const at = record * NAME_BYTES;
    for (let i = 0; i < NAME_BYTES; i++) request.name[i] = names[at + i] as number;
    if (values !== undefined) for (let i = 0; i < VALUE_BYTES; i++) request.value[i] = values[at + i] as number;
    request.context = record;
    this.#submit(request);
  }

  #done(request: UdsRequest): void {
    if (request.error !== undefined) this.#error ??= request.error;
    else if (request.found) {
      const record = request.context as number;
      this.#found[record] = 1;
      this.#foundCount++;
      const at = record * VALUE_BYTES;
      for (let i = 0; i < VALUE_BYTES; i++) this.#oldValues[at + i] = request.oldValue[i] as number;
    }
    this.#free.push(request);
    if (this.#waiter !== undefined) {
      const waiter = this.#waiter;
      this.#waiter = undefined;
      waiter();
    }
  }
}
