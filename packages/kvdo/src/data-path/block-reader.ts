/** Reads data blocks: those asked for in one turn are sorted, and adjacent ones are read as one request. */
import { BLOCK_SIZE } from "../constants.ts";
import type { StorageIo } from "../io/storage-io.ts";
import type { DataVio } from "./data-vio.ts";

const BLOCKS_PER_REQUEST = 64;
/** Buffers kept for requests of more than one block: 4 MiB. */
const BUFFERS_KEPT = 16;

function byPbn(a: DataVio, b: DataVio): number {
  return a.ioPbn - b.ioPbn;
}

export class BlockReader {
  readonly #io: StorageIo;
  readonly #buffers: Buffer[] = [];
  #waiting: DataVio[] = [];
  #scheduled = false;

  constructor(io: StorageIo) {
    this.#io = io;
  }

  /** Reads block `vio.ioPbn`, through `vio.ioBytes` if it is read alone, then calls `vio.onRead`. */
  add(vio: DataVio): void {
    vio.ioError = null;
    this.#waiting.push(vio);
    if (this.#scheduled) return;
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
    if (vios.length === 1) {
      void this.#readOne(vios[0] as DataVio);
      return;
    }
    vios.sort(byPbn);
    for (let first = 0; first < vios.length; ) {
      const start = (vios[first] as DataVio).ioPbn;
      let end = first + 1;
      // Several vios may want the same block (fragments of a compressed one).
      let last = start;
      for (; end < vios.length; end++) {
        const pbn = (vios[end] as DataVio).ioPbn;
        if (pbn > last + 1 || pbn - start >= BLOCKS_PER_REQUEST) break;
        last = pbn;
      }
      if (end === first + 1) void this.#readOne(vios[first] as DataVio);
      else void this.#readRun(start, last - start + 1, vios.slice(first, end));
      first = end;
    }
  }

  async #readOne(vio: DataVio): Promise<void> {
    this.#io.countData(false, 1, false);
    try {
      await this.#io.readData(vio.ioPbn, vio.ioBytes);
    } catch (error) {
      vio.ioError = error ?? new Error("read failed");
    }
    this.#io.countData(false, 1, true);
    vio.onRead(vio, vio.ioError === null ? vio.ioBytes : null, 0);
  }

  async #readRun(start: number, count: number, run: readonly DataVio[]): Promise<void> {
    const buffer = this.#buffers.pop() ?? Buffer.alloc(BLOCKS_PER_REQUEST * BLOCK_SIZE);
    // Counted as the original would: one read for each block asked for.
    this.#io.countData(false, run.length, false);
    let failure: unknown = null;
    try {
      await this.#io.readData(start, buffer.subarray(0, count * BLOCK_SIZE));
    } catch (error) {
      failure = error ?? new Error("read failed");
    }
    this.#io.countData(false, run.length, true);
    for (const vio of run) {
      const at = (vio.ioPbn - start) * BLOCK_SIZE;
      vio.ioError = failure;
      vio.onRead(vio, failure === null ? buffer : null, at);
    }
    if (this.#buffers.length < BUFFERS_KEPT) this.#buffers.push(buffer);
  }
}
