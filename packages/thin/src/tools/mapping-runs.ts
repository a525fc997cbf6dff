/** Runs of mappings: virtual and data blocks both step by one, and, where asked, the time stays the same. */

/** `length` blocks from virtual block `begin`, at data block `data`. */
export interface MappingRun {
  begin: number;
  data: number;
  length: number;
  time: number;
}

/** Joins mappings that come in order into runs, and hands each run on when it ends. */
export class RunBuilder {
  readonly #emit: (run: MappingRun) => void;
  readonly #byTime: boolean;
  #begin = 0;
  #data = 0;
  #length = 0;
  #time = 0;

  /** With `byTime` false, time does not end a run, and a run carries the time of its first mapping. */
  constructor(emit: (run: MappingRun) => void, byTime = true) {
    this.#emit = emit;
    this.#byTime = byTime;
  }

  add(virtualBlock: number, dataBlock: number, time: number): void {
    if (
      this.#length > 0 &&
      virtualBlock === this.#begin + this.#length &&
      dataBlock === this.#data + this.#length &&
      (!this.#byTime || time === this.#time)
    ) {
      this.#length++;
      return;
    }
    this.end();
    this.#begin = virtualBlock;
    this.#data = dataBlock;
    this.#time = time;
    this.#length = 1;
  }

  /** Hands on the last run. */
  end(): void {
    if (this.#length === 0) return;
    this.#emit({ begin: this.#begin, data: this.#data, length: this.#length, time: this.#time });
    this.#length = 0;
  }
}
