/**
 * Deduplication of writes (Linux 6.12, hash zone): the index is asked once for each content in flight, the data is written
 * at most once, and everybody else shares the result. A block is shared only after its bytes were compared.
 */
import { equalBytes, type VdoError } from "@vdo/base";
import { type DataVio, VioQueue, type VioStep } from "../data-path/data-vio.ts";
import type { SlabDepot } from "../slab/slab-depot.ts";
import type { VdoStatistics } from "../statistics/index.ts";
import { HashLock } from "./hash-lock.ts";
import type { IndexClient } from "./index-client.ts";

/** What the data path does for the locks. */
export interface DedupeActions {
  /** Write the vio's block, packed if it compresses and nobody waits. */
  compressOrWrite: VioStep;
  /** Write the vio's block as it is. */
  writePlain: VioStep;
  /** Make the vio's mapping `newPbn`, `newState`, under `referenceLock`. */
  remap: VioStep;
  /** Read block `ioPbn` and, if the candidate is compressed, the fragment; then call {@link HashLocks.verified}. */
  verify: VioStep;
  /** The vio is done with everything but cleaning up. */
  finish: VioStep;
  /** Take the vio out of the packer if it is there. */
  cancelCompression: VioStep;
  /** The error for a vio that has no block. */
  noSpace: () => VdoError;
}

export class HashLocks {
  readonly #locks = new Map<number, HashLock>();
  readonly #free: HashLock[] = [];
  readonly #statistics: VdoStatistics;
  readonly #depot: SlabDepot;
  readonly #index: IndexClient;
  readonly #actions: DedupeActions;

  constructor(options: {
    statistics: VdoStatistics;
    depot: SlabDepot;
    index: IndexClient;
    actions: DedupeActions;
  }) {
    this.#statistics = options.statistics;
    this.#depot = options.depot;
    this.#index = options.index;
    this.#actions = options.actions;
  }

  get size(): number {
    return this.#locks.size;
  }

  /** A write whose record name is known arrives. */
  enter(vio: DataVio): void {
    const { name } = vio;
    // 52 of the first 64 bits: locks whose keys are equal by chance are told apart by the comparison below.
    const low = (name[0]! | (name[1]! << 8) | (name[2]! << 16) | (name[3]! << 24)) >>> 0;
    const high = name[4]! | (name[5]! << 8) | ((name[6]! & 15) << 16);
    const key = high * 0x1_0000_0000 + low;
    const existing = this.#locks.get(key);
    if (existing === undefined) {
      const lock = this.#create(key);
      lock.join(vio);
      this.#startQuerying(lock, vio);
      return;
    }
    const { hashLock } = this.#statistics;
    if (existing.members === null || !equalBytes(existing.members.data, vio.data)) {
      hashLock.concurrentHashCollisions++;
      this.#actions.writePlain(vio);
      return;
    }
    hashLock.concurrentDataMatches++;
    existing.join(vio);
    this.#joinByState(existing, vio);
  }

  #joinByState(lock: HashLock, vio: DataVio): void {
    switch (lock.state) {
      case "deduping":
        this.#launch(lock, vio, false);
        return;
      case "bypassing":
        this.#leave(lock, vio);
        this.#actions.writePlain(vio);
        return;
      case "writing":
        lock.waiters.push(vio);
        if (lock.leader !== null) this.#actions.cancelCompression(lock.leader);
        return;
      default:
        lock.waiters.push(vio);
    }
  }

  #create(key: number): HashLock {
    const lock = this.#free.pop() ?? new HashLock();
    lock.reset(key);
    lock.isRegistered = true;
    this.#locks.set(key, lock);
    return lock;
  }

  #leave(lock: HashLock, vio: DataVio): void {
    lock.leave(vio);
    if (lock.memberCount > 0) return;
    if (lock.isRegistered) this.#locks.delete(lock.key);
    this.#free.push(lock);
  }

  /** Clean-up: the vio gives up its share. */
  release(vio: DataVio): void {
    if (vio.hashLock !== null) this.#leave(vio.hashLock, vio);
  }

  // --- querying

  #startQuerying(lock: HashLock, vio: DataVio): void {
    lock.move("querying");
    lock.leader = vio;
    this.#index.query(vio, this.#queried);
  }

  readonly #queried = (vio: DataVio): void => {
    const lock = vio.hashLock as HashLock;
    if (vio.isDuplicate) {
      lock.duplicatePbn = vio.advicePbn;
      lock.duplicateState = vio.adviceState;
      this.#startLocking(lock, vio);
      return;
    }
    lock.needsUpdate = vio.allocationLock === null;
    this.#startWriting(lock, vio);
  };

  // --- locking and verifying

  #startLocking(lock: HashLock, leader: DataVio): void {
    lock.move("locking");
    lock.leader = leader;
    const pbnLock = this.#depot.acquireReadLock(lock.duplicatePbn);
    if (pbnLock === null) {
      this.#statistics.hashLock.dedupeAdviceStale++;
      lock.isCounted = true;
      lock.isVerified = false;
      lock.needsUpdate = true;
      this.#startWriting(lock, leader);
      return;
    }
    lock.duplicateLock = pbnLock;
    if (!lock.isVerified) {
      lock.move("verifying");
      leader.ioPbn = lock.duplicatePbn;
      this.#actions.verify(leader);
    } else if (pbnLock.claim()) this.#startDeduping(lock, leader, false);
    else {
      lock.isVerified = false;
      lock.needsUpdate = true;
      this.#startUnlocking(lock, leader);
    }
  }

  /** The candidate was read: `isEqual` says whether it holds the same bytes. */
  verified(leader: DataVio, isEqual: boolean): void {
    const lock = leader.hashLock as HashLock;
    const { hashLock } = this.#statistics;
    if (!lock.isCounted) {
      lock.isCounted = true;
      if (isEqual) hashLock.dedupeAdviceValid++;
      else hashLock.dedupeAdviceStale++;
    }
    lock.isVerified = isEqual && lock.duplicateLock?.claim() === true;
    if (lock.isVerified) this.#startDeduping(lock, leader, false);
    else {
      lock.needsUpdate = true;
      this.#startUnlocking(lock, leader);
    }
  }

  // --- deduping

  /** `isDone`: the agent has its mapping already, it wrote the copy. Otherwise it holds a claim. */
  #startDeduping(lock: HashLock, agent: DataVio, isDone: boolean): void {
    lock.move("deduping");
    if (lock.duplicateLock === null) {
      // The writer's own lock, a read lock by now, is what the others share.
      lock.duplicateLock = agent.allocationLock;
      agent.allocationLock = null;
    }
    lock.leader = null;
    if (!isDone) this.#launch(lock, agent, true);
    for (let vio = lock.waiters.shift(); vio !== null; vio = lock.waiters.shift()) this.#launch(lock, vio, false);
    if (isDone) this.#exitDeduping(lock, agent);
  }

  #launch(lock: HashLock, vio: DataVio, hasClaim: boolean): void {
    const { duplicateLock } = lock;
    if (!hasClaim && (duplicateLock === null || !duplicateLock.claim())) {
      this.#fork(lock, vio);
      return;
    }
    vio.newPbn = lock.duplicatePbn;
    vio.newState = lock.duplicateState;
    vio.referenceLock = duplicateLock;
    this.#actions.remap(vio);
  }

  /** The copy has all its references: a new lock takes over the key, and writes a second copy. */
  #fork(old: HashLock, vio: DataVio): void {
    const waiters = new VioQueue();
    waiters.append(old.waiters);
    old.isRegistered = false;
    old.needsUpdate = false;
    const lock = this.#create(old.key);
    lock.needsUpdate = true;
    lock.state = "querying";
    old.leave(vio);
    lock.join(vio);
    for (let waiter = waiters.shift(); waiter !== null; waiter = waiters.shift()) {
      old.leave(waiter);
      lock.join(waiter);
      lock.waiters.push(waiter);
    }
    this.#startWriting(lock, vio);
  }

  #exitDeduping(lock: HashLock, vio: DataVio): void {
    if (lock.memberCount > 1) {
      this.#actions.finish(vio);
      return;
    }
    lock.leader = vio;
    if (lock.needsUpdate) this.#startUpdating(lock, vio);
    else this.#startUnlocking(lock, vio);
  }

  // --- writing

  #startWriting(lock: HashLock, leader: DataVio): void {
    lock.move("writing");
    let writer = leader;
    if (leader.allocationLock === null) {
      const other = lock.waiters.removeFirst((waiter) => waiter.allocationLock !== null);
      if (other === null) {
        lock.leader = leader;
        leader.error = this.#actions.noSpace();
        this.fail(leader);
        return;
      }
      lock.waiters.pushFront(leader);
      writer = other;
    }
    lock.leader = writer;
    if (lock.waiters.length > 0) this.#actions.cancelCompression(writer);
    this.#actions.compressOrWrite(writer);
  }

  // --- after the block map was updated

  /** A member has made its mapping. */
  mapped(vio: DataVio): void {
    const lock = vio.hashLock as HashLock;
    if (lock.state === "deduping") this.#exitDeduping(lock, vio);
    else if (lock.state === "writing" && lock.leader === vio) this.#written(lock, vio);
    else this.#actions.finish(vio);
  }

  #written(lock: HashLock, leader: DataVio): void {
    lock.isVerified = true;
    lock.duplicatePbn = leader.newPbn;
    lock.duplicateState = leader.newState;
    if (leader.newState > 1 && lock.isRegistered) lock.needsUpdate = true;
    if (lock.waiters.length > 0) this.#startDeduping(lock, leader, true);
    else if (lock.needsUpdate) this.#startUpdating(lock, leader);
    else if (lock.duplicateLock !== null) this.#startUnlocking(lock, leader);
    else this.#startBypassing(lock, leader);
  }

  // --- updating, unlocking, bypassing

  #startUpdating(lock: HashLock, leader: DataVio): void {
    lock.move("updating");
    lock.leader = leader;
    lock.needsUpdate = false;
    this.#index.update(leader, lock.duplicatePbn, lock.duplicateState, this.#updated);
  }

  readonly #updated = (leader: DataVio): void => {
    const lock = leader.hashLock as HashLock;
    if (lock.waiters.length > 0) this.#startDeduping(lock, leader, true);
    else if (lock.duplicateLock !== null) this.#startUnlocking(lock, leader);
    else this.#startBypassing(lock, leader);
  };

  #startUnlocking(lock: HashLock, leader: DataVio): void {
    lock.move("unlocking");
    lock.leader = leader;
    if (lock.duplicateLock !== null) {
      this.#depot.releaseLock(lock.duplicateLock);
      lock.duplicateLock = null;
    }
    if (!lock.isVerified) {
      this.#startWriting(lock, leader);
      return;
    }
    const next = lock.waiters.shift();
    if (next === null) {
      lock.isVerified = false;
      this.#startBypassing(lock, leader);
      return;
    }
    lock.isVerified = false;
    lock.leader = next;
    this.#actions.finish(leader);
    this.#startLocking(lock, next);
  }

  #startBypassing(lock: HashLock, vio: DataVio): void {
    lock.move("bypassing");
    this.#actions.finish(vio);
  }

  // --- failure

  /** `vio.error` is set: the vio leaves; if it led the lock, everybody in it is on his own. */
  fail(vio: DataVio): void {
    const lock = vio.hashLock;
    if (lock !== null && lock.state !== "bypassing" && (lock.leader === vio || lock.leader === null)) {
      this.#dissolve(lock, vio);
    }
    this.#actions.finish(vio);
  }

  #dissolve(lock: HashLock, vio: DataVio): void {
    // While deduping all members are on their way; only the last of them ends the lock.
    if (lock.state === "deduping" && lock.memberCount > 1) return;
    lock.state = "bypassing";
    lock.needsUpdate = false;
    lock.leader = vio;
    const waiters = new VioQueue();
    waiters.append(lock.waiters);
    if (lock.duplicateLock !== null) {
      this.#depot.releaseLock(lock.duplicateLock);
      lock.duplicateLock = null;
    }
    for (let waiter = waiters.shift(); waiter !== null; waiter = waiters.shift()) this.#actions.writePlain(waiter);
  }
}
