/**
 * Logical locks: one holder per logical block, for its whole life in the engine (Linux 6.12, LBN lock).
 *
 * All metadata of a logical block changes under this lock, so its old and new mappings follow each other one at a time.
 * Those who wait inherit the lock in the order of their arrival.
 */
import { type DataVio, VIO_READ } from "./data-vio.ts";

export class LogicalLocks {
  readonly #holders = new Map<number, DataVio>();
  /** Vios waiting for any lock. */
  waiting = 0;

  /** Holder of the lock on `lbn`. */
  holder(lbn: number): DataVio | undefined {
    return this.#holders.get(lbn);
  }

  get size(): number {
    return this.#holders.size;
  }

  /** Takes the lock for `vio`; returns the present holder when there is one. */
  take(vio: DataVio): DataVio | undefined {
    const holder = this.#holders.get(vio.lbn);
    if (holder === undefined) this.#holders.set(vio.lbn, vio);
    return holder;
  }

  wait(vio: DataVio, holder: DataVio): void {
    holder.lockWaiters.push(vio);
    this.waiting++;
  }

  /** Hands the lock of `vio` on; returns the new holder, or null when nobody waited. */
  release(vio: DataVio): DataVio | null {
    const next = vio.lockWaiters.shift();
    if (next === null) {
      this.#holders.delete(vio.lbn);
      return null;
    }
    this.waiting--;
    next.lockWaiters.append(vio.lockWaiters);
    this.#holders.set(vio.lbn, next);
    return next;
  }

  /** True while a write or discard of `lbn` is under way, so that its block map entry may be about to change. */
  isChanging(lbn: number): boolean {
    const holder = this.#holders.get(lbn);
    if (holder === undefined) return false;
    return holder.kind !== VIO_READ || holder.lockWaiters.head !== null;
  }
}
