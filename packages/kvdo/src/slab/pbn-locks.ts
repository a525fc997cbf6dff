/**
 * Locks on physical blocks (Linux 6.12, PBN lock pool): who may reference, write or reuse a block right now.
 *
 * - A write lock is held by the vio that allocated the block; nobody else may use it.
 * - A read lock is shared; it counts how many new references may still be made under it (`claim`).
 * - A lock may be responsible for a provisional reference (count 255), which becomes a real count by the first increment
 *   or is given back when the last holder lets go.
 */
import { invariant } from "@vdo/base";

export const LOCK_READ = 0;
export const LOCK_WRITE = 1;
export const LOCK_BLOCK_MAP = 2;

/** Most references that a data block may have (Linux 6.12, maximum reference count). */
export const MAXIMUM_REFERENCES = 254;

export class PbnLock {
  pbn = 0;
  type: number = LOCK_READ;
  holders = 0;
  hasProvisionalReference = false;
  /** The provisional reference was the last real one: the block holds data that nobody may need any more. */
  wasReferenced = false;
  incrementLimit = 0;
  incrementsClaimed = 0;
  /** Compressed blocks: their fragments' writers claim their own increments. */
  isCompressed = false;

  /** Claims one of the increments that may still be made; false when there is none. */
  claim(): boolean {
    this.incrementsClaimed++;
    return this.incrementsClaimed <= this.incrementLimit;
  }

  /** A write lock becomes a read lock: the block was written and may be shared now. */
  downgrade(isCompressed: boolean): void {
    if (this.type === LOCK_READ) return;
    invariant(this.type === LOCK_WRITE, "only a data write lock is downgraded");
    this.type = LOCK_READ;
    // The writer of an uncompressed block makes one reference itself; the fragments of a compressed one claim theirs.
    this.incrementLimit = isCompressed ? MAXIMUM_REFERENCES : MAXIMUM_REFERENCES - 1;
    this.incrementsClaimed = 0;
    this.isCompressed = isCompressed;
  }
}

export class PbnLockTable {
  readonly #locks = new Map<number, PbnLock>();
  readonly #free: PbnLock[] = [];

  get size(): number {
    return this.#locks.size;
  }

  get(pbn: number): PbnLock | undefined {
    return this.#locks.get(pbn);
  }

  /** A new lock with one holder on a block that has none. */
  create(pbn: number, type: number): PbnLock {
    invariant(!this.#locks.has(pbn), "a new lock is taken on an unlocked block");
    const lock = this.#free.pop() ?? new PbnLock();
    lock.pbn = pbn;
    lock.type = type;
    lock.holders = 1;
    lock.hasProvisionalReference = false;
    lock.wasReferenced = false;
    lock.incrementLimit = 0;
    lock.incrementsClaimed = 0;
    lock.isCompressed = false;
    this.#locks.set(pbn, lock);
    return lock;
  }

  /** Lets go of one share; true when it was the last, and the lock is gone (its fields stay readable until the next `create`). */
  release(lock: PbnLock): boolean {
    invariant(lock.holders > 0, "a lock that is released has a holder");
    lock.holders--;
    if (lock.holders > 0) return false;
    this.#locks.delete(lock.pbn);
    this.#free.push(lock);
    return true;
  }
}
