/**
 * Writes that found no free block while others are about to free some: a discard is acknowledged before its block is free
 * again, and what follows it must find the space. They wait until a block is free, or nothing more can become free.
 */
import type { ReadOnlyNotifier } from "../io/read-only.ts";
import { type DataVio, VioQueue, type VioStep } from "./data-vio.ts";

export class SpaceWaiters {
  readonly #hurry: () => void;
  readonly #hasSpace: () => boolean;
  readonly #waiting = new VioQueue();
  /** Vios whose old block loses a reference. */
  #freeing = 0;
  #wakeScheduled = false;

  constructor(options: { notifier: ReadOnlyNotifier; hurry: () => void; hasSpace: () => boolean }) {
    this.#hurry = options.hurry;
    this.#hasSpace = options.hasSpace;
    options.notifier.onEnter(() => {
      for (let vio = this.#waiting.shift(); vio !== null; vio = this.#waiting.shift()) {
        vio.error ??= options.notifier.refusal();
        vio.onReady(vio);
      }
    });
  }

  /** Somebody waits: the journal commits without delay. */
  get isWaiting(): boolean {
    return this.#waiting.length > 0;
  }

  /** The old block of `vio` will lose a reference. */
  begin(vio: DataVio): void {
    vio.isFreeing = true;
    this.#freeing++;
  }

  /** Free blocks are kept from being used, or let go: a write that finds no others waits for them. */
  hold(): void {
    this.#freeing++;
  }
  release(): void {
    this.#ended();
  }

  /** It has lost it, or never will. */
  end(vio: DataVio): void {
    if (!vio.isFreeing) return;
    vio.isFreeing = false;
    this.#ended();
  }

  #ended(): void {
    this.#freeing--;
    if (this.#waiting.length === 0 || this.#wakeScheduled) return;
    if (this.#freeing > 0 && !this.#hasSpace()) return;
    this.#wakeScheduled = true;
    queueMicrotask(this.#wake);
  }

  readonly #wake = (): void => {
    this.#wakeScheduled = false;
    const waiting = new VioQueue();
    waiting.append(this.#waiting);
    for (let vio = waiting.shift(); vio !== null; vio = waiting.shift()) vio.onReady(vio);
  };

  /** Has `vio.onReady` called when there may be space; false, with nothing done, when none can be expected. */
  wait(vio: DataVio, onReady: VioStep): boolean {
    if (this.#freeing === 0) return false;
    vio.onReady = onReady;
    this.#waiting.push(vio);
    this.#hurry();
    return true;
  }
}
