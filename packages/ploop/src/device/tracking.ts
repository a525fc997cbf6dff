/** Which clusters of the top file changed since they were last asked for: for copying a file that is in use. */

export class FileTracker {
  readonly #clusterBytes: number;
  #bits: Uint8Array;
  #cursor: number;

  /** `count` file clusters, none of them marked. */
  constructor(count: number, clusterBytes: number) {
    this.#bits = new Uint8Array(count);
    this.#clusterBytes = clusterBytes;
    this.#cursor = count - 1;
  }

  /** The bytes were written. */
  mark(offset: number, length: number): void {
    const last = Math.floor((offset + Math.max(length, 1) - 1) / this.#clusterBytes);
    for (let place = Math.floor(offset / this.#clusterBytes); place <= last; place++) this.markPlace(place);
  }

  markPlace(place: number): void {
    if (place >= this.#bits.length) this.#extend(place + 1);
    this.#bits[place] = 1;
  }

  /** The next marked cluster after the last one given, around the end; it is no longer marked. */
  next(): number | undefined {
    let place = this.#bits.indexOf(1, this.#cursor + 1);
    if (place < 0) place = this.#bits.indexOf(1);
    if (place < 0) return undefined;
    this.#bits[place] = 0;
    this.#cursor = place;
    return place;
  }

  #extend(count: number): void {
    const bits = new Uint8Array(Math.max(count, 2 * this.#bits.length));
    bits.set(this.#bits);
    this.#bits = bits;
  }
}
