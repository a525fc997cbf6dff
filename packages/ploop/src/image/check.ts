/**
 * Check of an image, and repair of what can be repaired: the file's length, entries that cannot be, the in-use mark. Data are
 * neither looked at nor moved, and clusters that no entry names need no repair: the next user takes them.
 *
 * The classes are the original's. *Soft* problems are repaired when the check may write; *fatal* ones only by `hardForce`
 * (the entry is zeroed, its data are gone); a cluster named twice is never repaired, because nobody can know whose it is.
 */
import { isVdoError } from "@vdo/base";
import type { ImageFile } from "../file/image-file.ts";
import {
  batClusters,
  FLAG,
  type ImageHeader,
  IN_USE,
  isInUseWord,
  PAGE_BYTES,
  readHeader,
  SECTOR,
  versionOf,
} from "../format/header.ts";
import { Delta, HEADER_WORDS } from "./delta.ts";
import { dropExtension, loadExtension } from "./extension-store.ts";

export interface CheckOptions {
  /** Check an image that was closed, too; and extend a file that is not whole clusters. */
  force?: boolean;
  /** Zero entries that cannot be. Implies `force`. */
  hardForce?: boolean;
  /** Take the in-use mark away when all is well. */
  dropInUse?: boolean;
  /** Look for clusters named twice (default true). */
  overlaps?: boolean;
}

export type CheckOutcome = "Fixed" | "Skipped" | "Ignored" | "FATAL";

export interface CheckFinding {
  /** Where: a header field, or `BAT entry N`. */
  place: string;
  text: string;
  outcome: CheckOutcome;
}

export interface CheckReport {
  /** `clean`: nothing is wrong (or the image was closed, and no check was forced). */
  result: "clean" | "repaired" | "dirty" | "damaged";
  /** The image was closed, so its index was not looked at. */
  skipped: boolean;
  findings: CheckFinding[];
  /** Guest clusters with data in this image. */
  usedClusters: number;
  /** File clusters that no entry names. Harmless. */
  unusedClusters: number;
}

/** Words of a BAT looked at together. */
const CHUNK_BYTES = 1 << 20;

/**
 * Checks an expanded image. A file opened read-only is not changed: problems that could be repaired are `Skipped`. Throws
 * `VDO_CORRUPT` (structure: the image, field: of the header) when the header is damaged, for then nothing else can be told.
 */
export async function checkImage(file: ImageFile, options: CheckOptions = {}): Promise<CheckReport> {
  return new Checker(file, options).run();
}

class Checker {
  readonly #file: ImageFile;
  readonly #options: CheckOptions;
  readonly #force: boolean;
  readonly #report: CheckReport = { result: "clean", skipped: false, findings: [], usedClusters: 0, unusedClusters: 0 };

  constructor(file: ImageFile, options: CheckOptions) {
    this.#file = file;
    this.#options = options;
    this.#force = options.force === true || options.hardForce === true;
  }

  async run(): Promise<CheckReport> {
    const file = this.#file;
    const header = await headerOf(file);
    const inUse = !this.#isClosed(header);
    if (!(await this.#checkLength(header))) return this.#end(inUse);
    if (!inUse && !this.#force) {
      this.#report.skipped = true;
      return this.#report;
    }
    if ((header.flags & FLAG.converting) !== 0) {
      this.#find("flags", "a conversion of the format was interrupted: finish it first", "FATAL");
      return this.#end(inUse);
    }
    await this.#checkEntries(header);
    if (!inUse) await this.#checkExtension();
    if (inUse && this.#report.findings.every(({ outcome }) => outcome === "Fixed")) await this.#dropInUse();
    return this.#end(inUse);
  }

  #find(place: string, text: string, outcome: CheckOutcome): void {
    this.#report.findings.push({ place, text, outcome });
  }

  /** Words that mean nothing are set right with the in-use mark. */
  #isClosed({ inUse, flags }: ImageHeader): boolean {
    const outcome = this.#options.dropInUse === true && !this.#file.readOnly ? "Fixed" : "Skipped";
    const isOdd = !isInUseWord(inUse);
    if (isOdd) this.#find("in-use word", `0x${inUse.toString(16)} says neither closed nor open`, outcome);
    const unknown = flags - (flags & (FLAG.empty | FLAG.converting));
    if (unknown > 0) this.#find("flags", `0x${flags.toString(16)} has flags that the format does not know`, outcome);
    return !isOdd && unknown === 0 && inUse !== IN_USE.open;
  }

  async #checkLength(header: ImageHeader): Promise<boolean> {
    const clusterBytes = header.clusterSectors * SECTOR;
    const { length, readOnly } = this.#file;
    const least = batClusters(header.clusterCount, header.clusterSectors) * clusterBytes;
    if (length < least) {
      this.#find("file length", `${length} bytes are too few for header and BAT, which take ${least}`, "FATAL");
      return false;
    }
    const rest = length % clusterBytes;
    if (rest === 0) return true;
    const text = `${length} bytes are not whole clusters of ${clusterBytes}`;
    if (readOnly || !this.#force) {
      this.#find("file length", text, readOnly ? "Skipped" : "FATAL");
      return false;
    }
    await this.#file.setLength(length - rest + clusterBytes);
    await this.#file.flush();
    this.#find("file length", text, "Fixed");
    return true;
  }

  async #checkEntries(header: ImageHeader): Promise<void> {
    const file = this.#file;
    const clusterBytes = header.clusterSectors * SECTOR;
    const places = Math.floor(file.length / clusterBytes);
    const first = batClusters(header.clusterCount, header.clusterSectors);
    const seen = new Uint8Array(places);
    const end = first * clusterBytes;
    const judge = new EntryJudge(header, { places, seen, overlaps: this.#options.overlaps !== false });
    for (let offset = 0; offset < end; offset += CHUNK_BYTES) {
      const bytes = new Uint8Array(Math.min(CHUNK_BYTES, end - offset));
      await file.read(offset, bytes);
      const words = new Uint32Array(bytes.buffer);
      const zeroed = new Set<number>();
      for (let i = offset === 0 ? HEADER_WORDS : 0; i < words.length; i++) {
        const word = words[i] as number;
        if (word === 0) continue;
        const cluster = offset / 4 + i - HEADER_WORDS;
        const problem = judge.problemOf(cluster, word);
        if (problem === undefined) {
          this.#report.usedClusters++;
          continue;
        }
        const outcome = this.#outcomeOf(problem.kind);
        this.#find(`BAT entry ${cluster}`, problem.text, outcome);
        if (outcome !== "Fixed") continue;
        words[i] = 0;
        zeroed.add(Math.floor((i * 4) / PAGE_BYTES));
      }
      for (const page of zeroed) {
        const at = page * PAGE_BYTES;
        await file.write(offset + at, bytes.subarray(at, Math.min(at + PAGE_BYTES, bytes.length)));
      }
      if (zeroed.size > 0) await file.flush();
    }
    this.#report.unusedClusters = seen.subarray(first).reduce((sum, value) => sum + (value === 0 ? 1 : 0), 0);
  }

  /** Dirty bitmaps of no use are taken away. */
  async #checkExtension(): Promise<void> {
    const delta = await Delta.open(this.#file);
    try {
      await loadExtension(delta);
    } catch (error) {
      if (!isVdoError(error, "VDO_CORRUPT")) throw error;
      const { readOnly } = this.#file;
      if (!readOnly) await dropExtension(delta);
      this.#find("format extension", error.message, readOnly ? "Skipped" : "Fixed");
    }
  }

  #outcomeOf(kind: ProblemKind): CheckOutcome {
    const { hardForce } = this.#options;
    const { readOnly } = this.#file;
    if (kind === "twice") return hardForce === true ? "Ignored" : "FATAL";
    if (kind === "fatal" && hardForce !== true) return "FATAL";
    return readOnly ? "Skipped" : "Fixed";
  }

  async #dropInUse(): Promise<void> {
    if (this.#options.dropInUse !== true || this.#file.readOnly) return;
    const delta = await Delta.open(this.#file, { repairable: true });
    await delta.writeHeader({ inUse: IN_USE.closed, flags: 0, extensionOffset: 0 });
    await this.#file.flush();
    this.#find("in-use word", "the dirty flag was set", "Fixed");
  }

  #end(inUse: boolean): CheckReport {
    const { findings } = this.#report;
    const outcomes = new Set(findings.map(({ outcome }) => outcome));
    if (outcomes.has("FATAL") || outcomes.has("Ignored") || outcomes.has("Skipped")) this.#report.result = "damaged";
    else if (inUse && this.#options.dropInUse !== true) this.#report.result = "dirty";
    else this.#report.result = findings.length > 0 ? "repaired" : "clean";
    if (inUse && this.#file.readOnly && this.#report.result === "clean") this.#report.result = "dirty";
    return this.#report;
  }
}

type ProblemKind = "soft" | "fatal" | "twice";

class EntryJudge {
  readonly #header: ImageHeader;
  readonly #unit: number;
  readonly #first: number;
  readonly #look: { places: number; seen: Uint8Array; overlaps: boolean };

  constructor(header: ImageHeader, look: { places: number; seen: Uint8Array; overlaps: boolean }) {
    this.#header = header;
    this.#unit = versionOf(header) === 1 ? header.clusterSectors : 1;
    this.#first = batClusters(header.clusterCount, header.clusterSectors);
    this.#look = look;
  }

  problemOf(cluster: number, word: number): { kind: ProblemKind; text: string } | undefined {
    const { places, seen, overlaps } = this.#look;
    if (cluster >= this.#header.clusterCount) {
      return { kind: "soft", text: `data cluster ${cluster} lies beyond the block device's size` };
    }
    const place = word / this.#unit;
    if (!Number.isInteger(place))
      return { kind: "fatal", text: `${word} is not a multiple of ${this.#unit}: corrupted` };
    if (place < this.#first) return { kind: "fatal", text: `data cluster ${place} lies inside header and BAT` };
    if (place >= places) return { kind: "fatal", text: `data cluster ${place} lies beyond the end of the file` };
    const twice = seen[place] === 1;
    seen[place] = 1;
    return twice && overlaps ? { kind: "twice", text: `block ${place} is used more than once` } : undefined;
  }
}

async function headerOf(file: ImageFile): Promise<ImageHeader> {
  const page = new Uint8Array(Math.min(PAGE_BYTES, file.length));
  if (page.length === PAGE_BYTES) await file.read(0, page);
  return readHeader(page.length === PAGE_BYTES ? page : new Uint8Array(0), file.name, { repairable: true });
}
