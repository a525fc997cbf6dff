/** One disk with one volume on it, from power-on to power-off, and the only thing that makes time pass for them. */
import { errorMessage } from "@vdo/base";
import type { SimulatedDisk, SimulatedDiskOptions } from "@vdo/block-device/testing";
import type { VdoVolume, VolumeEvent } from "@vdo/kvdo";
import type { Engine } from "./engine.ts";
import type { History } from "./history.ts";
import { SimulatedClock } from "./simulated-clock.ts";

/** Turns without any request or timer after which work that is not done never will be. */
const IDLE_TURNS_MAX = 60;

const CALM: Partial<SimulatedDiskOptions> = {
  readErrors: 0,
  writeErrors: 0,
  flushErrors: 0,
  blocksMax: Number.POSITIVE_INFINITY,
};

/** What a history showed to be wrong. */
export class SimulationFailure extends Error {
  override readonly name = "SimulationFailure";
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

export class Machine {
  readonly disk: SimulatedDisk;
  readonly clock = new SimulatedClock();
  volume: VdoVolume | undefined;
  /** What put the volume into read-only mode. */
  readOnlyError: unknown;
  /** Slabs are still being recovered; undefined until that was told or asked. */
  #isScrubbing: boolean | undefined;
  readonly #engine: Engine;
  readonly #history: Omit<History, "items">;
  readonly #onTurn: () => void;

  /** `onTurn` is called in every turn; what it throws ends the work. */
  constructor(disk: SimulatedDisk, engine: Engine, history: Omit<History, "items">, onTurn: () => void) {
    this.disk = disk;
    this.#engine = engine;
    this.#history = history;
    this.#onTurn = onTurn;
  }

  /** The disk after a power cut, without faults, under a new machine. */
  crashed(seed: number): Machine {
    this.disk.cut();
    return this.outcome(seed);
  }

  /** What a power cut now would leave, without faults, under a new machine; this one goes on. */
  outcome(seed: number): Machine {
    return new Machine(this.disk.outcome(seed, CALM), this.#engine, this.#history, this.#onTurn);
  }

  /** Slabs are still being recovered. */
  get isScrubbing(): boolean {
    // Asked once only: a status is costly, and changes are told.
    this.#isScrubbing ??= this.volume?.status().recovering === true;
    return this.#isScrubbing;
  }

  /** Cuts the power after `requests` more requests of the disk. */
  arm(requests: number): void {
    void this.disk.cutAfter(this.disk.completed + requests);
  }

  disarm(): void {
    void this.disk.cutAfter(Number.POSITIVE_INFINITY);
  }

  /** Lets the disk go on until `isDone`, or the power is cut. `what` is named when that never happens. */
  async until(what: string, isDone: () => boolean): Promise<void> {
    for (let idle = 0; !isDone() && !this.disk.isCut; ) {
      await turn();
      this.clock.advance(this.#history.turnMs);
      this.#onTurn();
      if (this.disk.inFlight > 0 || this.clock.skip()) idle = 0;
      else if (++idle > IDLE_TURNS_MAX) throw new SimulationFailure(`${what} never ends: nothing is under way`);
    }
    this.#onTurn();
  }

  async turns(count: number): Promise<void> {
    for (let i = 0; i < count && !this.disk.isCut; i++) {
      await turn();
      this.clock.advance(this.#history.turnMs);
      this.#onTurn();
    }
  }

  /** The result of `work`; undefined when the power was cut before. */
  async run<T>(what: string, work: Promise<T>): Promise<{ result: T } | undefined> {
    let outcome: { result: T } | { error: unknown } | undefined;
    work.then(
      (result) => {
        outcome = { result };
      },
      (error: unknown) => {
        outcome = { error };
      },
    );
    await this.until(what, () => outcome !== undefined);
    const settled = outcome as { result: T } | { error: unknown } | undefined;
    if (settled === undefined) return undefined;
    if ("result" in settled) return settled;
    if (this.disk.isCut) return undefined;
    throw settled.error;
  }

  /** Opens the volume; false when the power was cut before that was done. */
  async open(): Promise<boolean> {
    const { options } = this.#history;
    const onChange = (event: VolumeEvent): void => {
      if (event.type === "readOnly") this.readOnlyError = event.error;
      if (event.type === "recovery" && event.phase === "slabs") this.#isScrubbing = event.done < event.of;
    };
    const opening = this.#engine.VdoVolume.open(this.disk, { ...options, clock: this.clock, onChange });
    const opened = await this.run("opening the volume", opening);
    if (opened === undefined) return false;
    this.volume = opened.result;
    return !this.disk.isCut;
  }

  /** The volume, opened so that nothing is written. */
  openReadOnly(): Promise<VdoVolume> {
    return this.#engine.VdoVolume.open(this.disk, { ...this.#history.options, clock: this.clock, readOnly: true });
  }

  /** Puts the volume into read-only mode and orders a rebuild; false when the power was cut before that was done. */
  async orderRebuild(): Promise<{ erased: number } | undefined> {
    if ((await this.run("setReadOnly", this.#engine.setReadOnly(this.disk))) === undefined) return undefined;
    const report = await this.run("forceRebuild", this.#engine.forceRebuild(this.disk));
    if (report === undefined) return undefined;
    const { lostPages, erasedPages, erasedMappings } = report.result;
    return { erased: lostPages + erasedPages + erasedMappings };
  }

  /** Why the volume is in read-only mode. */
  get readOnlyReason(): string {
    return errorMessage(this.readOnlyError);
  }
}
