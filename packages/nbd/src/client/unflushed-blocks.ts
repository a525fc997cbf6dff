/** What was written since the last flush, block by block, as it must be written again when the server forgets it. */

/** One block's content; null for zeros. */
type Content = Uint8Array | null;

/** Consecutive blocks: their bytes, or null for zeros. */
export interface UnflushedRun {
  start: number;
  count: number;
  bytes: Uint8Array | null;
}

/** Bytes of the longest run. */
const RUN_BYTES_MAX = 1024 * 1024;

export class UnflushedBlocks {
  readonly #blockSize: number;
  /** Not covered by any flush that was sent, and covered by the flush that is under way. */
  #fresh = new Map<number, Content>();
  #flushing = new Map<number, Content>();

  constructor(blockSize: number) {
    this.#blockSize = blockSize;
  }

  /** Bytes that are held, at most. */
  get bytes(): number {
    return (this.#fresh.size + this.#flushing.size) * this.#blockSize;
  }

  /** Notes what blocks hold now. `bytes` is kept: nobody may change it. Null notes `count` blocks of zeros. */
  note(start: number, count: number, bytes: Uint8Array | null): void {
    for (let i = 0; i < count; i++) {
      const at = i * this.#blockSize;
      this.#fresh.set(start + i, bytes === null ? null : bytes.subarray(at, at + this.#blockSize));
    }
  }

  /** A flush begins, which covers everything noted so far. */
  beginFlush(): void {
    for (const [block, content] of this.#fresh) this.#flushing.set(block, content);
    this.#fresh = new Map();
  }

  /** The flush has succeeded: what it covered need not be remembered. */
  endFlush(): void {
    this.#flushing = new Map();
  }

  /** Everything, latest content only, in ascending order. */
  runs(): UnflushedRun[] {
    const all = new Map(this.#flushing);
    for (const [block, content] of this.#fresh) all.set(block, content);
    const runs: { start: number; contents: Content[] }[] = [];
    const most = Math.max(1, Math.floor(RUN_BYTES_MAX / this.#blockSize));
    for (const block of [...all.keys()].sort((a, b) => a - b)) {
      const content = all.get(block) as Content;
      const last = runs.at(-1);
      const continues =
        last !== undefined &&
        last.start + last.contents.length === block &&
        last.contents.length < most &&
        (last.contents[0] === null) === (content === null);
      if (continues) last.contents.push(content);
      else runs.push({ start: block, contents: [content] });
    }
    return runs.map(({ start, contents }) => ({ start, count: contents.length, bytes: this.#join(contents) }));
  }

  #join(contents: readonly Content[]): Uint8Array | null {
    if (contents[0] === null) return null;
    const bytes = new Uint8Array(contents.length * this.#blockSize);
    for (const [i, content] of contents.entries()) bytes.set(content as Uint8Array, i * this.#blockSize);
    return bytes;
  }
}
