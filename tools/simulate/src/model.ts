/**
 * What must be true of the content of a volume (`vdo-engine` §2), without knowing how it works.
 *
 * Each logical block has versions: what was ever written to it, with the moments at which the request began and ended.
 * A version is **superseded** for a read by one that began after it ended and ended before the read began; and for a start
 * after a crash by one that began after it ended and is durable: acknowledged with FUA, or before a flush that was
 * acknowledged. Versions that are not superseded are the ones that may be found, whole. A write that was refused, or cut off
 * by the crash, may have happened or not, and supersedes nothing.
 */
import { matches, recognise, type Value } from "./content.ts";

export interface Version {
  value: Value;
  start: number;
  /** Moment of the answer; infinite until then, and for ever if a crash came first. */
  end: number;
  isAcknowledged: boolean;
  isDurable: boolean;
}

/** What a read may find: what is current while the volume runs, or what a crash may leave. */
export type Rule = "current" | "afterCrash";

/** Values by logical block. */
export type Expectations = ReadonlyMap<number, readonly Value[]>;

export class Model {
  readonly #blocks = new Map<number, Version[]>();
  /** Acknowledged and not known to be durable. */
  #volatile: Version[] = [];
  readonly #contents = new Set<number>();
  #now = 1;

  /** A new moment, later than all before. */
  now(): number {
    return ++this.#now;
  }

  /** Logical blocks that were ever written. */
  get touched(): number[] {
    return [...this.#blocks.keys()].sort((a, b) => a - b);
  }

  #versions(lbn: number): Version[] {
    let versions = this.#blocks.get(lbn);
    if (versions === undefined) {
      versions = [{ value: 0, start: 0, end: 0, isAcknowledged: true, isDurable: true }];
      this.#blocks.set(lbn, versions);
    }
    return versions;
  }

  /** A write of `value` to `lbn` begins. */
  begin(lbn: number, value: Value): Version {
    const version = {
      value,
      start: this.now(),
      end: Number.POSITIVE_INFINITY,
      isAcknowledged: false,
      isDurable: false,
    };
    this.#versions(lbn).push(version);
    for (const content of typeof value === "number" ? [value] : value) this.#contents.add(content);
    return version;
  }

  /** The request of `versions` was acknowledged. */
  acknowledge(versions: readonly Version[], fua: boolean): void {
    const end = this.now();
    for (const version of versions) {
      version.end = end;
      version.isAcknowledged = true;
      if (fua) version.isDurable = true;
      else this.#volatile.push(version);
    }
  }

  /** The request of `versions` failed. */
  refuse(versions: readonly Version[]): void {
    const end = this.now();
    for (const version of versions) version.end = end;
  }

  /** A flush that began at `start` (or a clean stop) was acknowledged. */
  flushed(start: number): void {
    this.#volatile = this.#volatile.filter((version) => {
      if (version.end >= start) return true;
      version.isDurable = true;
      return false;
    });
  }

  /** Nobody answers what was not answered; what was not durable may be gone. */
  crash(): void {
    this.#volatile = [];
  }

  /** Forgets versions that nothing will ever find again; nothing may be under way. */
  prune(): void {
    for (const versions of this.#blocks.values()) {
      if (versions.length < 4) continue;
      const kept = versions.filter((version) => !isSuperseded(version, versions, "afterCrash", this.#now));
      versions.splice(0, versions.length, ...kept);
    }
  }

  /** What a read of `lbn` that began at `start` may return. */
  candidates(lbn: number, rule: Rule, start: number): Value[] {
    const versions = this.#blocks.get(lbn);
    if (versions === undefined) return [0];
    return versions.filter((version) => !isSuperseded(version, versions, rule, start)).map(({ value }) => value);
  }

  /** What `lbn` holds now, when that is certain and nothing is under way for it; undefined otherwise. */
  certain(lbn: number): Value | undefined {
    const versions = this.#blocks.get(lbn) ?? [];
    if (versions.some(({ end }) => end === Number.POSITIVE_INFINITY)) return undefined;
    const values = this.candidates(lbn, "current", this.now());
    return values.length === 1 ? values[0] : undefined;
  }

  /** What a crash at this moment may leave, for every block ever written. */
  expectations(): Expectations {
    return new Map(this.touched.map((lbn) => [lbn, this.candidates(lbn, "afterCrash", 0)]));
  }

  /** What is wrong with finding `bytes` in `lbn` after a crash at the moment of `expectations`; undefined when nothing is. */
  misfit(expectations: Expectations, lbn: number, bytes: Uint8Array): string | undefined {
    const candidates = expectations.get(lbn) ?? [0];
    if (candidates.some((value) => matches(value, bytes))) return undefined;
    return this.#describe(lbn, bytes, candidates);
  }

  #describe(lbn: number, bytes: Uint8Array, candidates: readonly Value[]): string {
    const expected = [...new Set(candidates.map(textOf))].join(" or ");
    return `block ${lbn} holds ${recognise(bytes, this.#contents)}, and not ${expected}`;
  }

  /** The value that `bytes`, read from `lbn`, are; or what is wrong with them. */
  judge(lbn: number, bytes: Uint8Array, rule: Rule, start: number): { value: Value } | { problem: string } {
    const candidates = this.candidates(lbn, rule, start);
    const found = candidates.find((value) => matches(value, bytes));
    if (found !== undefined) return { value: found };
    return { problem: this.#describe(lbn, bytes, candidates) };
  }

  /** `lbn` was found to hold `value` after a start: from now on it does. */
  settle(lbn: number, value: Value): void {
    this.#blocks.set(lbn, [{ value, start: 0, end: 0, isAcknowledged: true, isDurable: true }]);
  }
}

function isSuperseded(version: Version, versions: readonly Version[], rule: Rule, start: number): boolean {
  for (const other of versions) {
    if (!other.isAcknowledged || other.start <= version.end) continue;
    if (rule === "afterCrash" ? other.isDurable : other.end < start) return true;
  }
  return false;
}

function textOf(value: Value): string {
  return typeof value === "number" ? String(value) : `[${value.join(" ")}]`;
}
