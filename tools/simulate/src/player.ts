/**
 * Plays a history and holds it against the model.
 *
 * ```
 * power on ▸ operations, many at once ▸ power cut ─┬▸ (forks) start ▸ read everything ▸ clean stop ▸ audit
 *    ▲                                             └▸ start, itself cut any number of times ▸ read everything ─┐
 *    └──────────────────────────────────────────────────────────────────────────────────────────────────────┘
 * ```
 * Nothing here is random: everything is in the history, so the same history fails in the same way.
 */
import { errorMessage, isVdoError } from "@vdo/base";
import { SimulatedDisk } from "@vdo/block-device/testing";
import type { VdoVolume } from "@vdo/kvdo";
import { formatTiny, tinyBlocks } from "@vdo/kvdo/testing";
import { BLOCK_BYTES, render, SECTOR_BYTES, SECTORS, sectorOf, type Value } from "./content.ts";
import type { Engine } from "./engine.ts";
import { describeItem, type History, type Item } from "./history.ts";
import { auditProblems } from "./image.ts";
import { Machine, SimulationFailure } from "./machine.ts";
import { type Expectations, Model, type Rule, type Version } from "./model.ts";
import { Advice, withSimulatedIndex } from "./simulated-index.ts";
import { emptyTally, type Tally } from "./tally.ts";
import { withUnhandled } from "./unhandled.ts";
import { leftovers, SUMMARY_BLOCKS } from "./used-disk.ts";

/** Blocks read by one request when everything is checked, and requests in flight for it. */
const CHECKS_IN_FLIGHT = 32;
/** Power cuts in one start after which it is left in peace. */
const CUTS_MAX = 20;
/** One in so many forks is opened read-only before it is recovered. */
const LOOK_EVERY = 4;

type Judge = (lbn: number, block: Uint8Array) => void;

type Crash = Extract<Item, { kind: "crash" | "close" | "rebuild" }>;

/** What a crash would have left, and what it may hold. */
interface Fork {
  machine: Machine;
  expectations: Expectations;
  /** There were faults before: the volume may be in read-only mode, and still holds all that is durable. */
  isFaulty: boolean;
}

/** A request whose answer is awaited. */
interface Request {
  lbn: number;
  count: number;
  /** Nothing else may be under way for its blocks. */
  isExclusive: boolean;
}

export class Player {
  readonly tally = emptyTally();
  readonly #history: History;
  readonly #engine: Engine;
  readonly #model = new Model();
  #machine!: Machine;
  #outstanding = new Set<Request>();
  readonly #forks: Fork[] = [];
  /** Errors are possible: faults were set since the volume was last sound. */
  #isFaulty = false;
  /** Sizes that the volume has at least. */
  #logicalBlocks = 0;
  #physicalBlocks = 0;
  #failure: unknown;
  #place = "format";

  constructor(history: History, engine: Engine) {
    this.#history = history;
    this.#engine = engine;
  }

  /** Plays everything. Throws {@link SimulationFailure} at the first thing that is wrong. */
  async play(): Promise<Tally> {
    await withUnhandled(
      (error) => {
        this.#failure ??= error;
      },
      () => withSimulatedIndex(new Advice(this.#history.seed), () => this.#play()),
    );
    return this.tally;
  }

  async #play(): Promise<void> {
    const { tiny, items, disk, seed, isUsedDisk } = this.#history;
    try {
      const left = isUsedDisk ? leftovers(tiny) : undefined;
      const blank = new SimulatedDisk({ blockCount: tinyBlocks(tiny), seed, ...disk }, left);
      await formatTiny(blank, tiny);
      await blank.flush();
      this.#machine = new Machine(blank, this.#engine, this.#history, () => this.#check());
      await this.#start(seed, [], false);
      for (const [index, item] of items.entries()) {
        this.#place = `item ${index + 1} (${describeItem(item)})`;
        await this.#perform(item);
      }
      this.#place = "the end";
      await this.#perform({ kind: "close", seed, cuts: [] });
    } catch (error) {
      const text = error instanceof SimulationFailure ? error.message : ((error as Error)?.stack ?? String(error));
      throw new SimulationFailure(`${this.#place}: ${text}`);
    }
  }

  #check(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  #fail(text: string): void {
    this.#failure ??= new SimulationFailure(text);
  }

  // --- items

  async #perform(item: Item): Promise<void> {
    if (item.kind === "crash" || item.kind === "close" || item.kind === "rebuild") return this.#end(item);
    const machine = this.#machine;
    if (machine.disk.isCut) return;
    switch (item.kind) {
      case "settle":
        await machine.until("the requests under way", () => this.#outstanding.size === 0);
        if (!machine.disk.isCut) this.#model.prune();
        return;
      case "turns":
        return machine.turns(item.count);
      case "peek":
        this.#fork(machine.outcome(item.seed));
        return;
      case "arm":
        return machine.arm(item.after);
      case "faults": {
        const { room, ...odds } = item.faults;
        const blocksMax = room === undefined ? Number.POSITIVE_INFINITY : machine.disk.content.size + room;
        this.#isFaulty = true;
        return machine.disk.setFaults({ ...odds, blocksMax });
      }
      case "suspend":
        return this.#suspend(item);
      case "growLogical":
      case "growPhysical":
        return this.#grow(item);
      case "compression":
        await machine.volume?.setCompression(item.on);
        return;
      default:
        await machine.until("room for another request", () => this.#outstanding.size < this.#history.depth);
        return this.#submit(item);
    }
  }

  /** Waits until nothing under way stands in the way of a request. */
  async #clearFor(request: Request): Promise<void> {
    const isClear = (): boolean => {
      for (const other of this.#outstanding) {
        if (!other.isExclusive && !request.isExclusive) continue;
        if (other.lbn < request.lbn + request.count && request.lbn < other.lbn + other.count) return false;
      }
      return true;
    };
    await this.#machine.until("a request for the same blocks", isClear);
  }

  async #submit(item: Item): Promise<void> {
    if (item.kind === "flush") return this.#flush();
    if (!("lbn" in item)) return;
    const count = item.kind === "write" ? item.contents.length : item.kind === "partial" ? 1 : item.count;
    // What lies beyond the end of a volume that did not grow is left out.
    if (item.lbn + count > this.#volume.config().logicalBlocks) return;
    const request = { lbn: item.lbn, count, isExclusive: item.kind === "partial" };
    await this.#clearFor(request);
    if (this.#machine.disk.isCut) return;
    this.tally.operations++;
    if (item.kind === "read") return this.#read(request, "current");
    const { lbn } = item;
    const volume = this.#volume;
    const scale = BLOCK_BYTES / volume.blockSize;
    const options = { fua: item.fua };
    if (item.kind === "write") {
      const bytes = new Uint8Array(count * BLOCK_BYTES);
      for (const [i, content] of item.contents.entries()) render(content, bytes.subarray(i * BLOCK_BYTES));
      const versions = item.contents.map((content, i) => this.#model.begin(lbn + i, content));
      return this.#change(request, volume.write(lbn * scale, bytes, options), versions, item.fua);
    }
    if (item.kind === "partial") return this.#writePartial(item, request);
    const versions = Array.from({ length: count }, (_, i) => this.#model.begin(lbn + i, 0));
    const work =
      item.kind === "discard"
        ? volume.discard(lbn * scale, count * scale, options)
        : volume.writeZeroes(lbn * scale, count * scale, { ...options, mayUnmap: item.unmap });
    this.#change(request, work, versions, item.fua);
  }

  #writePartial(item: Extract<Item, { kind: "partial" }>, request: Request): void {
    const { lbn, sector, sectors, content, fua } = item;
    const before = this.#model.certain(lbn);
    const volume = this.#volume;
    // What it would be merged with must be known; and an engine in 4096-byte blocks has no parts of blocks.
    if (before === undefined || volume.blockSize !== SECTOR_BYTES) return;
    const value: Value = Array.from({ length: SECTORS }, (_, i) =>
      i >= sector && i < sector + sectors ? content : sectorOf(before, i),
    );
    const block = new Uint8Array(BLOCK_BYTES);
    render(content, block);
    const bytes = block.slice(sector * SECTOR_BYTES, (sector + sectors) * SECTOR_BYTES);
    const versions = [this.#model.begin(lbn, value)];
    this.#change(request, volume.write(lbn * SECTORS + sector, bytes, { fua }), versions, fua);
  }

  get #volume() {
    const { volume } = this.#machine;
    if (volume === undefined) throw new SimulationFailure("there is no volume");
    return volume;
  }

  /** Counts `work` as under way until it is answered; answers after a power cut are nobody's. */
  #await(request: Request, work: Promise<void>, answered: (error: unknown) => void): void {
    const machine = this.#machine;
    this.#outstanding.add(request);
    const done = (error: unknown): void => {
      if (machine !== this.#machine || machine.disk.isCut) return;
      this.#outstanding.delete(request);
      try {
        answered(error);
      } catch (failure) {
        this.#failure ??= failure;
      }
    };
    work.then(() => done(undefined), done);
  }

  #change(request: Request, work: Promise<void>, versions: readonly Version[], fua: boolean): void {
    this.#await(request, work, (error) => {
      if (error === undefined) return this.#model.acknowledge(versions, fua);
      this.tally.refused++;
      this.#model.refuse(versions);
      this.#judgeError("a change", error);
    });
  }

  #judgeError(what: string, error: unknown): void {
    if (isVdoError(error, "VDO_NO_SPACE") || this.#isFaulty) return;
    this.#fail(`${what} was refused: ${errorMessage(error)} (${this.#machine.readOnlyReason})`);
  }

  #flush(): void {
    const start = this.#model.now();
    this.tally.operations++;
    this.#await({ lbn: 0, count: 0, isExclusive: false }, this.#volume.flush(), (error) => {
      if (error === undefined) this.#model.flushed(start);
      else this.#judgeError("a flush", error);
    });
  }

  #read(request: Request, rule: Rule): void {
    const bytes = new Uint8Array(request.count * BLOCK_BYTES);
    const start = this.#model.now();
    const volume = this.#volume;
    const scale = BLOCK_BYTES / volume.blockSize;
    this.#await(request, volume.read(request.lbn * scale, bytes), (error) => {
      if (error !== undefined) return this.#judgeError("a read", error);
      // A write that was acknowledged and could not be carried out is gone when the volume is read-only.
      const effective = volume.readOnly ? "afterCrash" : rule;
      for (let i = 0; i < request.count; i++) {
        const block = bytes.subarray(i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES);
        const verdict = this.#model.judge(request.lbn + i, block, effective, start);
        if ("problem" in verdict) this.#fail(`a read: ${verdict.problem}`);
      }
    });
  }

  async #suspend({ save, cut }: Extract<Item, { kind: "suspend" }>): Promise<void> {
    const machine = this.#machine;
    const volume = this.#volume;
    const start = this.#model.now();
    if (cut !== undefined) machine.arm(cut);
    if ((await machine.run("suspend", volume.suspend({ save }))) === undefined) return;
    if (save && !volume.readOnly) this.#model.flushed(start);
    await machine.run("resume", volume.resume());
  }

  /** Once it is grown, it stays so. A volume that is recovering, or read-only, does not grow. */
  async #grow(item: Extract<Item, { kind: "growLogical" | "growPhysical" }>): Promise<void> {
    const machine = this.#machine;
    const { disk } = machine;
    const volume = this.#volume;
    const { physicalBlocks, logicalBlocks } = volume.config();
    const { slabBits, recoveryJournalBlocks } = this.#history.tiny;
    if (item.cut !== undefined) machine.arm(item.cut);
    try {
      if (item.kind === "growLogical") {
        const wanted = logicalBlocks + item.blocks;
        if ((await machine.run("logical growth", volume.growLogical(wanted))) === undefined) return;
        this.#logicalBlocks = wanted;
      } else {
        const wanted = physicalBlocks + SUMMARY_BLOCKS + recoveryJournalBlocks + item.slabs * 2 ** slabBits;
        disk.grow(Math.max(disk.blockCount, wanted));
        if ((await machine.run("physical growth", volume.growPhysical(wanted))) === undefined) return;
        this.#physicalBlocks = wanted;
      }
      this.tally.growths++;
    } catch (error) {
      if (isVdoError(error, "VDO_INVALID_ADMIN_STATE")) return;
      if (!this.#isFaulty) this.#fail(`a growth was refused: ${errorMessage(error)}`);
    }
  }

  #checkSizes({ logicalBlocks, physicalBlocks }: { logicalBlocks: number; physicalBlocks: number }): void {
    if (logicalBlocks >= this.#logicalBlocks && physicalBlocks >= this.#physicalBlocks) return;
    throw new SimulationFailure(`a growth was lost: ${logicalBlocks} logical, ${physicalBlocks} physical blocks`);
  }

  // --- the end of a run, and the next start

  async #end(item: Crash): Promise<void> {
    const machine = this.#machine;
    if (item.kind !== "close") machine.arm(item.after);
    else if (!machine.disk.isCut) await this.#close(item);
    if (item.kind !== "close") await machine.until("the requests before the cut", () => this.#outstanding.size === 0);
    machine.disk.cut();
    this.tally.crashes++;
    this.#outstanding = new Set();
    this.#model.crash();
    for (let fork = 1; fork <= this.#history.forks; fork++) this.#fork(machine.outcome(item.seed + fork));
    await this.#playForks();
    this.#machine = machine.crashed(item.seed);
    await this.#start(item.seed, item.cuts, item.kind === "rebuild", item.kind === "rebuild" && item.look);
  }

  async #close({ cut }: { cut?: number }): Promise<void> {
    const machine = this.#machine;
    const start = this.#model.now();
    if (cut !== undefined) machine.arm(cut);
    // Requests under way are finished by the stop, or refused by it when they were held back.
    try {
      if ((await machine.run("close", this.#volume.close())) === undefined) {
        this.tally.innerCrashes++;
        return;
      }
    } catch (error) {
      this.#judgeError("the clean stop", error);
      return;
    }
    await machine.turns(2);
    // A volume that was in read-only mode before stops without complaint, and saves nothing.
    if (!this.#volume.readOnly) this.#model.flushed(start);
    if (this.#isFaulty || machine.isScrubbing) return;
    await this.#audit(machine, this.#volume);
  }

  async #audit({ disk }: Machine, volume: VdoVolume): Promise<void> {
    this.tally.audits++;
    const problems = await auditProblems(disk, volume.statistics().dataBlocksUsed);
    if (problems.length > 0) throw new SimulationFailure(`the audit found: ${problems.slice(0, 5).join("; ")}`);
  }

  /** Another outcome of this crash, or one of a crash that does not come: looked at later. */
  #fork(machine: Machine): void {
    this.#forks.push({ machine, expectations: this.#model.expectations(), isFaulty: this.#isFaulty });
  }

  /** Each fork is started, read, stopped, audited, and forgotten. */
  async #playForks(): Promise<void> {
    for (const [index, { machine, expectations, isFaulty }] of this.#forks.splice(0).entries()) {
      const judge = (lbn: number, block: Uint8Array): void => {
        const problem = this.#model.misfit(expectations, lbn, block);
        if (problem !== undefined) throw new SimulationFailure(`after a crash: ${problem}`);
      };
      const touched = [...expectations.keys()];
      this.tally.starts++;
      if (index % LOOK_EVERY === 0) await this.#look(machine, touched, judge);
      await machine.open();
      const { volume } = machine;
      if (volume === undefined) throw new SimulationFailure("the power of a fork is cut");
      if (volume.readOnly && !isFaulty) {
        throw new SimulationFailure(`read-only after a crash: ${machine.readOnlyReason}`);
      }
      await this.#verify(machine, touched, judge);
      if (volume.readOnly) continue;
      await machine.until("the recovery of the slabs", () => !machine.isScrubbing || volume.readOnly);
      if (volume.readOnly) throw new SimulationFailure(`read-only while recovering slabs: ${machine.readOnlyReason}`);
      await machine.run("close after a crash", volume.close());
      await this.#audit(machine, volume);
    }
  }

  /** Starts the volume, through as many power cuts as asked for, and reads everything. */
  async #start(seed: number, cuts: readonly number[], rebuild: boolean, look = false): Promise<void> {
    for (let attempt = 0; attempt < CUTS_MAX; attempt++) {
      const machine = this.#machine;
      this.tally.starts++;
      const cut = cuts[attempt];
      if (cut !== undefined) machine.arm(cut);
      if (await this.#startOnce(machine, rebuild, look)) {
        machine.disarm();
        return;
      }
      machine.disk.cut();
      this.tally.innerCrashes++;
      this.#machine = machine.crashed(seed + 100 + attempt);
    }
    throw new SimulationFailure("the volume never starts");
  }

  async #startOnce(machine: Machine, rebuild: boolean, look: boolean): Promise<boolean> {
    if (rebuild && !(await this.#rebuild(machine, look))) return false;
    if (!(await machine.open())) return false;
    const volume = this.#volume;
    this.#checkSizes(volume.config());
    if (volume.readOnly) {
      if (!this.#isFaulty) throw new SimulationFailure(`read-only after a start: ${machine.readOnlyReason}`);
      this.tally.readOnly++;
      await this.#verifyAll(machine, false);
      if (
        (await machine.run(
          "close",
          volume.close().catch(() => undefined),
        )) === undefined
      )
        return false;
      if (!(await this.#rebuild(machine, false)) || !(await machine.open())) return false;
      if (this.#volume.readOnly) throw new SimulationFailure(`read-only after a rebuild: ${machine.readOnlyReason}`);
    }
    if (!(await this.#verifyAll(machine, true))) return false;
    this.#isFaulty = false;
    return true;
  }

  /** Orders a rebuild; false when the power was cut before that was done. */
  async #rebuild(machine: Machine, look: boolean): Promise<boolean> {
    this.tally.rebuilds++;
    const report = await machine.orderRebuild();
    if (report === undefined) return false;
    if (report.erased > 0 && !this.#isFaulty) {
      throw new SimulationFailure(`a rebuild would erase ${report.erased} entries of a sound block map`);
    }
    return !look || this.#look(machine, this.#model.touched, (lbn, block) => void this.#judgeStart(lbn, block));
  }

  /** A volume that is dirty, or to be rebuilt, can be read though nothing is written; false when the power was cut. */
  async #look(machine: Machine, lbns: readonly number[], judge: Judge): Promise<boolean> {
    const before = new Map(machine.disk.content);
    const opened = await machine.run("opening read-only", machine.openReadOnly());
    if (opened === undefined) return false;
    machine.volume = opened.result;
    if (!(await this.#verify(machine, lbns, judge))) return false;
    await machine.run("close", opened.result.close());
    const { content } = machine.disk;
    if (content.size !== before.size || [...content].some(([number, block]) => before.get(number) !== block)) {
      throw new SimulationFailure("a volume opened read-only was written to");
    }
    machine.volume = undefined;
    return !machine.disk.isCut;
  }

  /** Reads every block ever written; what is found then is what it holds from now on, if `settle` is set. */
  #verifyAll(machine: Machine, settle: boolean): Promise<boolean> {
    return this.#verify(machine, this.#model.touched, (lbn, block) => {
      const value = this.#judgeStart(lbn, block);
      if (settle) this.#model.settle(lbn, value);
    });
  }

  #judgeStart(lbn: number, block: Uint8Array): Value {
    const verdict = this.#model.judge(lbn, block, "afterCrash", 0);
    if ("problem" in verdict) throw new SimulationFailure(`after the start: ${verdict.problem}`);
    return verdict.value;
  }

  /** Reads `lbns`; false when the power was cut before that was done. */
  async #verify(machine: Machine, lbns: readonly number[], judge: Judge): Promise<boolean> {
    const { volume } = machine;
    if (volume === undefined) return false;
    const scale = BLOCK_BYTES / volume.blockSize;
    const checkOne = async (lbn: number): Promise<void> => {
      const block = new Uint8Array(BLOCK_BYTES);
      await volume.read(lbn * scale, block);
      if (!machine.disk.isCut) judge(lbn, block);
    };
    for (let at = 0; at < lbns.length; at += CHECKS_IN_FLIGHT) {
      const group = lbns.slice(at, at + CHECKS_IN_FLIGHT);
      if ((await machine.run("reading everything", Promise.all(group.map(checkOne)))) === undefined) return false;
    }
    return true;
  }
}
