/**
 * Writes data blocks: those handed over in one turn go down together, adjacent ones as one request.
 *
 * While a few requests are out, further blocks gather; so the slower the storage, the larger the requests.
 */
import type { StorageIo } from "../io/storage-io.ts";
import type { DataVio } from "./data-vio.ts";

const REQUESTS_IN_FLIGHT = 4;
const BLOCKS_PER_REQUEST = 256;

function byPbn(a: DataVio, b: DataVio): number {
  return a.ioPbn - b.ioPbn;
}

export class BlockWriter {
  readonly #io: StorageIo;
  #waiting: DataVio[] = [];
  #scheduled = false;
  #inFlight = 0;

  constructor(io: StorageIo) {
    this.#io = io;
  }

  /** Writes `vio.ioBytes` to `vio.ioPbn`, then calls `vio.onWritten`; `vio.ioError` says whether it failed. */
  add(vio: DataVio): void {
    vio.ioError = null;
    this.#waiting.push(vio);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled || this.#inFlight >= REQUESTS_IN_FLIGHT) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#dispatch();
    });
  }

  #dispatch(): void {
    const vios = this.#waiting;
    if (vios.length === 0) return;
    this.#waiting = [];
    vios.sort(byPbn);
    for (let first = 0; first < vios.length; ) {
      const start = (vios[first] as DataVio).ioPbn;
      let end = first + 1;
      while (
        end < vios.length &&
        end - first < BLOCKS_PER_REQUEST &&
        (vios[end] as DataVio).ioPbn === start + end - first
      ) {
        end++;
      }
      void this.#write(start, first === 0 && end === vios.length ? vios : vios.slice(first, end));
      first = end;
    }
  }

  async #write(pbn: number, run: readonly DataVio[]): Promise<void> {
    this.#inFlight++;
    let fua = 0;
    const sources: Uint8Array[] = [];
    for (const vio of run) {
      sources.push(vio.ioBytes);
      if (vio.fua && vio.ioBytes === vio.data) fua++;
    }
    this.#io.countData(true, run.length, false, fua);
    let failure: unknown = null;
    try {
      await this.#io.writeData(pbn, sources);
    } catch (error) {
      failure = error ?? new Error("write failed");
    }
    this.#io.countData(true, run.length, true, fua);
    this.#inFlight--;
    for (const vio of run) {
      vio.ioError = failure;
      vio.onWritten(vio);
    }
    if (this.#waiting.length > 0) this.#schedule();
  }
}
