/** A hash lock: all writes of one content that are in flight together (Linux 6.12, hash lock), and its table of moves. */
import { invariant } from "@vdo/base";
import { type DataVio, VioQueue } from "../data-path/data-vio.ts";
import type { PbnLock } from "../slab/pbn-locks.ts";

/** Every state, the states it may be left to, and why. */
export const HASH_LOCK_MOVES = {
  initializing: { querying: "the first vio asks the index" },
  querying: {
    locking: "usable advice",
    writing: "no advice",
    bypassing: "the leader failed",
  },
  locking: {
    verifying: "the block is locked, its content unknown",
    deduping: "the block is locked and known to be the same, one reference claimed",
    writing: "the block must not be shared",
    unlocking: "known to be the same, but it has all the references it can have",
    bypassing: "the leader failed",
  },
  verifying: {
    deduping: "same bytes, one reference claimed",
    unlocking: "other bytes, or no reference left",
    bypassing: "the leader failed",
  },
  deduping: {
    updating: "last one out, and the index has to learn a location",
    unlocking: "last one out",
    bypassing: "the last one failed",
  },
  writing: {
    deduping: "written, and others wait for the copy",
    updating: "written, and the index has to learn the location",
    unlocking: "written, holding a lock on the copy",
    bypassing: "written, nothing left to do; or the leader failed",
  },
  updating: {
    deduping: "others joined meanwhile",
    unlocking: "holding a lock on the copy",
    bypassing: "nothing left to do",
  },
  unlocking: {
    writing: "the candidate was not the same",
    locking: "others joined meanwhile: same location, to be verified again",
    bypassing: "nothing left to do",
  },
  bypassing: {},
} as const satisfies Record<string, Record<string, string>>;

export type HashLockState = keyof typeof HASH_LOCK_MOVES;

export class HashLock {
  /** Key in the table of locks: the first bytes of the record name. */
  key = 0;
  state: HashLockState = "initializing";
  /** The vio doing the lock's work; null while deduping. */
  leader: DataVio | null = null;
  /** Members, linked by `hashPrevious` and `hashNext`. */
  members: DataVio | null = null;
  memberCount = 0;
  readonly waiters = new VioQueue();
  /** Candidate or known copy. */
  duplicatePbn = 0;
  duplicateState = 0;
  /** Read lock on the copy. */
  duplicateLock: PbnLock | null = null;
  /** The copy is known to hold the same bytes. */
  isVerified = false;
  /** The advice was counted as valid or stale. */
  isCounted = false;
  /** The index has to learn the location before the lock ends. */
  needsUpdate = false;
  /** Found through its key; false once another lock rolled over from it. */
  isRegistered = false;

  reset(key: number): void {
    this.key = key;
    this.state = "initializing";
    this.leader = null;
    this.members = null;
    this.memberCount = 0;
    this.duplicatePbn = 0;
    this.duplicateState = 0;
    this.duplicateLock = null;
    this.isVerified = false;
    this.isCounted = false;
    this.needsUpdate = false;
    this.isRegistered = false;
  }

  /** Goes to `to`, which must follow the present state in {@link HASH_LOCK_MOVES}. */
  move(to: HashLockState): void {
    invariant(Object.hasOwn(HASH_LOCK_MOVES[this.state], to), "hash lock moves are in the table");
    this.state = to;
  }

  join(vio: DataVio): void {
    vio.hashLock = this;
    vio.hashPrevious = null;
    vio.hashNext = this.members;
    if (this.members !== null) this.members.hashPrevious = vio;
    this.members = vio;
    this.memberCount++;
  }

  leave(vio: DataVio): void {
    if (vio.hashPrevious === null) this.members = vio.hashNext;
    else vio.hashPrevious.hashNext = vio.hashNext;
    if (vio.hashNext !== null) vio.hashNext.hashPrevious = vio.hashPrevious;
    vio.hashPrevious = null;
    vio.hashNext = null;
    vio.hashLock = null;
    this.memberCount--;
    if (this.leader === vio) this.leader = null;
  }
}
