/**
 * Backup of the moment at which it started, without a snapshot: a write to a cluster that was not saved yet waits until the
 * backup program has read the old content.
 *
 * When nothing is saved for longer than the timeout while writes wait, the backup is given up: the writes go on, and the
 * program learns it with its next message (ESTALE).
 */
import type { Clock } from "@vdo/base";
import { refused } from "../errors.ts";

export interface PushBackupOptions {
  /** 32 hexadecimal digits. */
  uuid: string;
  clusterCount: number;
  /** One bit per cluster, lowest first: which take part. Default: all. */
  mask?: Uint8Array;
  timeoutMs: number;
  clock: Clock;
  /** Told when the backup ends with clusters that were not saved. */
  onGivenUp?: () => void;
}

export class PushBackup {
  readonly uuid: string;
  readonly #clusterCount: number;
  readonly #timeoutMs: number;
  readonly #clock: Clock;
  readonly #onGivenUp: (() => void) | undefined;
  /** 1: still to be saved. */
  readonly #wanted: Uint8Array;
  #left = 0;
  readonly #held = new Map<number, (() => void)[]>();
  /** Held clusters not reported yet, oldest first. */
  readonly #pending = new Set<number>();
  #readers: (() => void)[] = [];
  #cancelTimer: (() => void) | undefined;
  #state: "active" | "expired" | "stopped" = "active";

  constructor({ uuid, clusterCount, mask, timeoutMs, clock, onGivenUp }: PushBackupOptions) {
    this.uuid = uuid;
    this.#clusterCount = clusterCount;
    this.#timeoutMs = timeoutMs;
    this.#clock = clock;
    this.#onGivenUp = onGivenUp;
    this.#wanted = new Uint8Array(clusterCount);
    for (let cluster = 0; cluster < clusterCount; cluster++) {
      if (mask !== undefined && (((mask[cluster >>> 3] ?? 0) >>> (cluster & 7)) & 1) === 0) continue;
      this.#wanted[cluster] = 1;
      this.#left++;
    }
  }

  get isExpired(): boolean {
    return this.#state === "expired";
  }

  /** Clusters still to be saved. */
  get remaining(): number {
    return this.#left;
  }

  /** Writes that wait. */
  get delayed(): number {
    let count = 0;
    for (const list of this.#held.values()) count += list.length;
    return count;
  }

  /** A write to `cluster` has to wait: {@link hold} it. */
  mustHold(cluster: number): boolean {
    return this.#state === "active" && this.#wanted[cluster] === 1;
  }

  hold(cluster: number): Promise<void> {
    return new Promise((resolve) => {
      if (this.#held.size === 0) this.#startTimer();
      const list = this.#held.get(cluster);
      if (list === undefined) {
        this.#held.set(cluster, [resolve]);
        this.#pending.add(cluster);
        this.#wakeReaders();
      } else list.push(resolve);
    });
  }

  /** Waits for a held write; resolves with a run of held clusters not reported before, or undefined when all is saved. */
  async read(): Promise<{ first: number; count: number } | undefined> {
    for (;;) {
      this.#checkAlive();
      const oldest = this.#pending.values().next().value;
      if (oldest !== undefined) return this.#takeRun(oldest);
      if (this.#left === 0) return undefined;
      await new Promise<void>((resolve) => this.#readers.push(resolve));
    }
  }

  #takeRun(oldest: number): { first: number; count: number } {
    let first = oldest;
    let last = oldest;
    while (this.#pending.has(first - 1)) first--;
    while (this.#pending.has(last + 1)) last++;
    for (let cluster = first; cluster <= last; cluster++) this.#pending.delete(cluster);
    return { first, count: last - first + 1 };
  }

  /** These clusters are saved: their writes go on. */
  write(first: number, count: number): void {
    this.#checkAlive();
    if (!Number.isInteger(first) || !Number.isInteger(count) || first < 0 || count < 1) {
      throw refused("push_backup_write", "EINVAL", "a range is FIRST:COUNT, at least one cluster");
    }
    if (first + count > this.#clusterCount) {
      throw refused("push_backup_write", "E2BIG", `the device has ${this.#clusterCount} clusters`);
    }
    for (let cluster = first; cluster < first + count; cluster++) {
      if (this.#wanted[cluster] === 1) this.#left--;
      this.#wanted[cluster] = 0;
      this.#pending.delete(cluster);
      const list = this.#held.get(cluster);
      this.#held.delete(cluster);
      for (const resume of list ?? []) resume();
    }
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    if (this.#held.size > 0) this.#startTimer();
    if (this.#left === 0) this.#wakeReaders();
  }

  stop(): void {
    this.#end("stopped");
  }

  #end(state: "expired" | "stopped"): void {
    if (this.#state === "active" && this.#left > 0) this.#onGivenUp?.();
    this.#state = state;
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    const held = [...this.#held.values()];
    this.#held.clear();
    this.#pending.clear();
    for (const list of held) for (const resume of list) resume();
    this.#wakeReaders();
  }

  #startTimer(): void {
    this.#cancelTimer = this.#clock.after(this.#timeoutMs, () => this.#end("expired"));
  }

  #wakeReaders(): void {
    for (const wake of this.#readers.splice(0)) wake();
  }

  #checkAlive(): void {
    if (this.#state === "expired")
      throw refused("push backup", "ESTALE", "it took too long and was given up; start anew");
    if (this.#state === "stopped") throw refused("push backup", "EBADF", "it was stopped");
  }
}
