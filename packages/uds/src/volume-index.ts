/** The volume index: which chapter holds a record name. One sub-index when dense, two (hooks and the rest) when sparse. */
import { SubIndex } from "./delta/sub-index.ts";
import type { IndexGeometry } from "./geometry.ts";
import { isHook } from "./record-place.ts";

export class VolumeIndex {
  readonly sampleRate: number;
  /** The only sub-index, or that of the names that are no hooks. */
  readonly main: SubIndex;
  /** The hooks of a sparse index. */
  readonly hooks: SubIndex | undefined;
  /** The sub-index that answered the last {@link get}: results are in its fields, changes are made on it. */
  current: SubIndex;

  constructor(geometry: IndexGeometry) {
    this.sampleRate = geometry.sampleRate;
    const [main, hooks] = geometry.subIndexes.map((sub) => new SubIndex(sub));
    this.main = main as SubIndex;
    this.hooks = hooks;
    this.current = this.main;
  }

  get subIndexes(): readonly SubIndex[] {
    return this.hooks === undefined ? [this.main] : [this.main, this.hooks];
  }

  /** True when the index is sparse and `name` is a hook. */
  isHook(name: Uint8Array): boolean {
    return this.sampleRate > 0 && isHook(name, this.sampleRate);
  }

  /** Looks `name` up and returns the sub-index with the answer. */
  get(name: Uint8Array): SubIndex {
    const sub = this.hooks !== undefined && isHook(name, this.sampleRate) ? this.hooks : this.main;
    sub.get(name);
    this.current = sub;
    return sub;
  }

  openChapter(chapter: number): void {
    this.main.openChapter(chapter);
    this.hooks?.openChapter(chapter);
  }

  clear(): void {
    this.main.clear();
    this.hooks?.clear();
  }

  get recordCount(): number {
    return this.main.recordCount + (this.hooks?.recordCount ?? 0);
  }

  get collisionCount(): number {
    return this.main.collisionCount + (this.hooks?.collisionCount ?? 0);
  }

  get discardCount(): number {
    return this.main.discardCount + (this.hooks?.discardCount ?? 0);
  }

  get overflowCount(): number {
    return this.main.overflowCount + (this.hooks?.overflowCount ?? 0);
  }

  get earlyFlushes(): number {
    return this.main.earlyFlushes + (this.hooks?.earlyFlushes ?? 0);
  }
}
