/** Two bounded memories of the past: one that forgets, and one that keeps the whole time and becomes coarser. */

/** The last `limit` values. */
export class RecentSamples<T> {
  readonly #limit: number;
  #values: T[] = [];

  constructor(limit: number) {
    this.#limit = limit;
  }

  add(value: T): void {
    this.#values.push(value);
    if (this.#values.length > this.#limit) this.#values.shift();
  }

  get last(): T | undefined {
    return this.#values.at(-1);
  }

  values(): T[] {
    return [...this.#values];
  }
}

/**
 * Values of the whole time, at most `limit`, at even distances: when there would be more, every second one is dropped, and
 * of those that come only each 2nd, 4th, 8th, … is kept.
 *
 *     limit 4:  0 1 2 3  ▸ 0 2 4  ▸ 0 2 4 6  ▸ 0 4 8 …
 */
export class ThinningSamples<T> {
  readonly #limit: number;
  #values: T[] = [];
  #stride = 1;
  #seen = 0;

  /** `limit` is even, at least 2. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** How many values were offered for each one that is kept. */
  get stride(): number {
    return this.#stride;
  }

  add(value: T): void {
    const place = this.#seen++;
    if (place % this.#stride !== 0) return;
    if (this.#values.length === this.#limit) {
      this.#values = this.#values.filter((_value, index) => index % 2 === 0);
      this.#stride *= 2;
      if (place % this.#stride !== 0) return;
    }
    this.#values.push(value);
  }

  values(): T[] {
    return [...this.#values];
  }
}
