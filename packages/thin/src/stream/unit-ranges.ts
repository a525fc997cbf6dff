/** Ranges of units that ascend and do not touch. */

export class UnitRanges {
  readonly #begins: number[] = [];
  readonly #ends: number[] = [];
  #units = 0;

  /** Units in all ranges. */
  get units(): number {
    return this.#units;
  }

  /** Adds a range behind all others. */
  add(begin: number, end: number): void {
    this.#units += end - begin;
    if (this.#ends.at(-1) === begin) this.#ends[this.#ends.length - 1] = end;
    else {
      this.#begins.push(begin);
      this.#ends.push(end);
    }
  }

  *pieces(countMax: number): Generator<{ begin: number; end: number }> {
    for (let i = 0; i < this.#begins.length; i++) {
      const end = this.#ends[i] as number;
      for (let begin = this.#begins[i] as number; begin < end; begin += countMax) {
        yield { begin, end: Math.min(end, begin + countMax) };
      }
    }
  }

  /** All units below `limit`, in pieces of at most `countMax`, each wholly inside a range or wholly outside. */
  *cover(limit: number, countMax: number): Generator<{ begin: number; end: number; isInside: boolean }> {
    let next = 0;
    for (let begin = 0; begin < limit; ) {
      while (next < this.#ends.length && (this.#ends[next] as number) <= begin) next++;
      const isInside = next < this.#begins.length && (this.#begins[next] as number) <= begin;
      const border = isInside ? this.#ends[next] : this.#begins[next];
      const end = Math.min(limit, begin + countMax, border ?? limit);
      yield { begin, end, isInside };
      begin = end;
    }
  }
}
