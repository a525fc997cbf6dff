/**
 * Locks on ranges of blocks: overlapping requests are served one after the other, so that a block never holds a mixture
 * of two writes, a read never sees half of one, and a read-modify-write loses nothing. Reads share.
 *
 * First come, first served among overlapping requests. Active and waiting holders are few (bounded by the requests in
 * flight), so plain scans are faster than any tree.
 */

export interface LockHolder {
  /** First block and the block after the last one. */
  lockStart: number;
  lockEnd: number;
  lockShared: boolean;
  /** Place among the active holders; kept by {@link RangeLocks}. */
  lockIndex: number;
  /** Called when a lock that had to be waited for is held. */
  granted(): void;
}

export class RangeLocks {
  readonly #active: LockHolder[] = [];
  #waiting: LockHolder[] = [];

  /** True when the lock is held at once; otherwise `holder.granted()` is called later. */
  acquire(holder: LockHolder): boolean {
    if (
      conflicts(this.#active, this.#active.length, holder) ||
      conflicts(this.#waiting, this.#waiting.length, holder)
    ) {
      this.#waiting.push(holder);
      return false;
    }
    this.#hold(holder);
    return true;
  }

  release(holder: LockHolder): void {
    const active = this.#active;
    const last = active.pop() as LockHolder;
    if (last !== holder) {
      active[holder.lockIndex] = last;
      last.lockIndex = holder.lockIndex;
    }
    holder.lockIndex = -1;
    if (this.#waiting.length > 0) this.#grant();
  }

  #hold(holder: LockHolder): void {
    holder.lockIndex = this.#active.length;
    this.#active.push(holder);
  }

  #grant(): void {
    const waiting = this.#waiting;
    const granted: LockHolder[] = [];
    let kept = 0;
    for (let i = 0; i < waiting.length; i++) {
      const holder = waiting[i] as LockHolder;
      if (conflicts(this.#active, this.#active.length, holder) || conflicts(waiting, kept, holder)) {
        waiting[kept] = holder;
        kept++;
      } else {
        this.#hold(holder);
        granted.push(holder);
      }
    }
    waiting.length = kept;
    for (const holder of granted) holder.granted();
  }
}

function conflicts(holders: readonly LockHolder[], count: number, one: LockHolder): boolean {
  for (let i = 0; i < count; i++) {
    const other = holders[i] as LockHolder;
    if (other.lockStart < one.lockEnd && one.lockStart < other.lockEnd && !(other.lockShared && one.lockShared))
      return true;
  }
  return false;
}
