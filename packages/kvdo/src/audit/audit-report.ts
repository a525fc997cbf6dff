/** What an audit found, as figures and as the lines that `vdoaudit` (tools 8.3) prints. */
import type { VolumeStateName } from "../format/index.ts";
import type { ReferenceTable } from "./reference-table.ts";

export interface AuditOptions {
  /** Name of the volume in the summary. Default `the volume`. */
  name?: string;
  /** One finding after another instead of a summary. Default false. */
  verbose?: boolean;
  /** Receives the lines as they are made; without it they are collected in {@link VolumeAudit.lines}. */
  onLine?: (line: AuditLine) => void;
  /** Called for every leaf entry in use. */
  onMapping?: (lbn: number, pbn: number, state: number) => void;
}

/** A line without its end; for standard output or standard error. */
export interface AuditLine {
  stream: "out" | "error";
  text: string;
}

export interface VolumeAudit {
  /** State in the super block, as `CLEAN`, `DIRTY`, … */
  state: VolumeStateName;
  /** 0 when nothing that `vdoaudit` checks is wrong, else 1. */
  exitStatus: 0 | 1;
  /** Leaf entries in use, and block map pages without the roots: as the super block states them, and as they were counted. */
  logicalBlocks: { stated: number; counted: number };
  pages: { stated: number; counted: number };
  mappingErrors: number;
  hintErrors: number;
  countErrors: number;
  errorSlabs: number;
  /** Everything that is wrong, the first hundred of each kind. */
  problems: string[];
  /** Those of `problems` that `vdoaudit` does not look for. */
  ownProblems: string[];
  /** What is unusual and harmless. */
  notes: string[];
  lines: AuditLine[];
  /** References as counted from the block map. */
  references: ReferenceTable;
}

/** Findings of each kind that are named. */
const NAMED_MAX = 100;

/** Count errors of one slab. */
class SlabErrors {
  readonly slab: number;
  readonly start: number;
  count = 0;
  first = 0;
  last = 0;
  readonly #deltas = new Map<number, number>();

  constructor(slab: number, start: number) {
    this.slab = slab;
    this.start = start;
  }

  add(sbn: number, delta: number): void {
    if (this.count++ === 0) this.first = sbn;
    this.last = sbn;
    this.#deltas.set(delta, (this.#deltas.get(delta) ?? 0) + 1);
  }

  *lines(): Iterable<string> {
    const { slab, start, count, first, last } = this;
    const where = count === 1 ? `SBN ${first}` : `SBN range [${first} .. ${last}]`;
    const errors = count === 1 ? "error" : "errors";
    yield `slab ${slab} at PBN ${start} had ${count} reference count ${errors} in ${where}`;
    yield "  error     delta   histogram";
    yield "  delta     count   (2% of errors in slab per dot)";
    for (const [delta, times] of [...this.#deltas].sort(([a], [b]) => a - b)) {
      const bar = "*".repeat(Math.ceil((50 * times) / count));
      yield `${String(delta).padStart(7)}  ${String(times).padStart(8)}   ${bar}`;
    }
    yield "";
  }
}

/** Collects findings and makes the lines. */
export class Findings {
  readonly problems: string[] = [];
  readonly ownProblems: string[] = [];
  readonly notes: string[] = [];
  readonly lines: AuditLine[] = [];
  mappingErrors = 0;
  hintErrors = 0;
  countErrors = 0;
  readonly #named = new Map<string, number>();
  readonly #slabs: SlabErrors[] = [];
  readonly #verbose: boolean;
  readonly #name: string;
  readonly #onLine: (line: AuditLine) => void;

  constructor({ name = "the volume", verbose = false, onLine }: AuditOptions) {
    this.#name = name;
    this.#verbose = verbose;
    this.#onLine = onLine ?? ((line) => void this.lines.push(line));
  }

  get errorSlabs(): number {
    return this.#slabs.length;
  }

  /** A line on standard error, with the program's name. */
  warn(text: string): void {
    this.#onLine({ stream: "error", text: `vdoaudit: ${text}` });
  }

  /** A problem that `vdoaudit` finds too, by kind; the first of each kind are named. Returns whether this one is. */
  problem(kind: string, text: string): boolean {
    const named = (this.#named.get(kind) ?? 0) + 1;
    this.#named.set(kind, named);
    if (named <= NAMED_MAX) this.problems.push(text);
    return named <= NAMED_MAX;
  }

  /** A problem that `vdoaudit` does not look for. */
  ownProblem(kind: string, text: string): void {
    if (this.problem(kind, text)) this.ownProblems.push(text);
  }

  note(text: string): void {
    if (this.notes.length < NAMED_MAX) this.notes.push(text);
  }

  badMapping(
    { page, slot, height }: { page: number; slot: number; height: number },
    problem: string,
    { pbn, state }: { pbn: number; state: number },
  ): void {
    this.mappingErrors++;
    const block = state > 1 ? `(PBN ${pbn}, state ${state})` : `(PBN ${pbn})`;
    const text = `Mapping at (page ${page}, slot ${slot}) (height ${height}) ${problem} ${block}`;
    this.problem("mapping", text);
    if (this.#verbose) this.#verboseLines(text, "");
  }

  badCount(at: { slab: number; start: number; sbn: number }, counted: number, stored: number, isLoaded: boolean): void {
    this.countErrors++;
    let errors = this.#slabs.at(-1);
    if (errors?.slab !== at.slab) {
      errors = new SlabErrors(at.slab, at.start);
      this.#slabs.push(errors);
    }
    errors.add(at.sbn, stored - counted);
    const page = counted === 255 ? "tree page " : "";
    const first = `Reference mismatch for ${page}pbn ${at.start + at.sbn}`;
    const second = `Block map had ${counted} but ${isLoaded ? "" : "(uninitialized) "}slab ${at.slab} had ${stored}`;
    this.problem("count", `${first}: ${second}`);
    if (this.#verbose) this.#verboseLines(first, second, "");
  }

  badHint(slab: number, roughly: number, free: number): void {
    this.hintErrors++;
    const first = `Slab summary reports roughly ${roughly} free blocks in`;
    const second = `slab ${slab}, instead of ${free} blocks`;
    this.problem("hint", `${first} ${second}`);
    if (this.#verbose) this.#verboseLines(first, second);
  }

  #verboseLines(first: string, ...rest: string[]): void {
    this.warn(first);
    for (const text of rest) this.#onLine({ stream: "error", text });
  }

  /** The summary, which verbose audits do not print. */
  summary(): void {
    if (this.#verbose) return;
    const line = (text: string): void => this.#onLine({ stream: "out", text });
    const several = (count: number, noun: string): string => `${count}${noun}${count === 1 ? "" : "s"}`;
    line(`audit summary for VDO volume '${this.#name}':`);
    line(several(this.mappingErrors, "block mapping error"));
    line(several(this.hintErrors, "free space hint error"));
    line(several(this.countErrors, "reference count error"));
    line(several(this.#slabs.length, "error-containing slab"));
    for (const errors of this.#slabs) for (const text of errors.lines()) line(text);
  }

  /** The last lines of an audit that found nothing. */
  allMatched(): void {
    this.warn("All pbn references matched.");
    this.#onLine({ stream: "error", text: "" });
  }
}
