/** What the status page shows of a daemon: its volume now, and how it was since the daemon started. */
import type { Clock } from "@vdo/base";
import { savingPercent, usedBlocks, usePercent } from "@vdo/kvdo";
import type { Daemon } from "../daemon/daemon.ts";
import { CLIENT_OPERATIONS, type ClientActivity, emptyActivity } from "../daemon/measured-device.ts";
import type { VolumeStatistics } from "../engine.ts";
import { commandError } from "../errors.ts";
import { noticesOf } from "./notices.ts";
import type { StatusSource, SwitchName } from "./page-server.ts";
import { RecentSamples, ThinningSamples } from "./samples.ts";
import type {
  ActivityRates,
  ActivitySample,
  SpaceSample,
  VolumeHistory,
  VolumeSnapshot,
  VolumeSpace,
} from "./snapshot.ts";

/** Activity is sampled this often, and kept for ten minutes. */
const ACTIVITY_SECONDS = 2;
const ACTIVITY_SAMPLES = 300;

/** Space is sampled at every fifth of these moments. */
const SPACE_EVERY = 5;
const SPACE_SAMPLES = 720;

/** Moves a switch as the command does, in the configuration too. */
export type SwitchMover = (name: SwitchName, on: boolean) => Promise<void>;

export interface VolumeSourceOptions {
  daemon: Daemon;
  clock: Clock;
  moveSwitch: SwitchMover;
}

export class VolumeSource implements StatusSource {
  readonly #daemon: Daemon;
  readonly #clock: Clock;
  readonly #moveSwitch: SwitchMover;
  readonly #space = new ThinningSamples<SpaceSample>(SPACE_SAMPLES);
  readonly #activity = new RecentSamples<ActivitySample>(ACTIVITY_SAMPLES);
  #before: { now: number; counts: ClientActivity };
  #ticks = 0;
  #cancel: (() => void) | undefined;

  constructor({ daemon, clock, moveSwitch }: VolumeSourceOptions) {
    this.#daemon = daemon;
    this.#clock = clock;
    this.#moveSwitch = moveSwitch;
    this.#before = { now: clock.now(), counts: emptyActivity() };
  }

  /** Samples from now on, until {@link stop}. */
  start(): void {
    this.#cancel = this.#clock.after(ACTIVITY_SECONDS * 1000, () => {
      this.sample();
      this.start();
    });
  }

  stop(): void {
    this.#cancel?.();
  }

  /** Takes one sample: of the activity always, of the space at the first and every fifth call of a served volume. */
  sample(): void {
    const { activity, stage } = this.#daemon;
    if (stage !== "ready" || activity === undefined) return;
    const at = this.#clock.wallMicroseconds() / 1e6;
    const now = this.#clock.now();
    const rates = ratesBetween(this.#before.counts, activity, (now - this.#before.now) / 1000);
    this.#before = { now, counts: structuredClone(activity) };
    if (rates !== undefined) this.#activity.add({ at, ...rates });
    if (this.#ticks++ % SPACE_EVERY !== 0) return;
    const space = spaceOf(this.#daemon.statistics());
    if (space === null) return;
    const { usedBytes, logicalUsedBytes } = space;
    this.#space.add({ at, usedBytes, logicalUsedBytes, savingPercent: space.savingPercent });
  }

  history(): VolumeHistory {
    return {
      space: {
        intervalSeconds: ACTIVITY_SECONDS * SPACE_EVERY * this.#space.stride,
        samples: this.#space.values(),
      },
      activity: { intervalSeconds: ACTIVITY_SECONDS, samples: this.#activity.values() },
    };
  }

  snapshot(): VolumeSnapshot {
    const { name, settings, stage, recovery, environment, isServedReadOnly } = this.#daemon;
    const open = stage === "ready" ? this.#openPart() : UNOPENED;
    const usedShare = open.space === null ? null : open.space.usedBytes / open.space.physicalBytes;
    const { mode, indexState } = open;
    return {
      name,
      softwareVersion: environment.version,
      takenAt: new Date(this.#clock.wallMicroseconds() / 1000).toISOString(),
      stage,
      recovery,
      device: settings.device,
      isServedReadOnly,
      writePolicy: settings.writePolicy,
      ...open,
      notices: noticesOf({ name, mode, stage, isServedReadOnly, indexState, recovery, usedShare }),
    };
  }

  #openPart(): OpenPart {
    const { state, volume, clients } = this.#daemon;
    const statistics = this.#daemon.statistics();
    const { mode, indexState, compression } = volume.status();
    const last = this.#activity.last;
    return {
      startedAt: state.startedAt,
      mode,
      attachedAs: state.attach.path,
      uuid: state.uuid,
      compression,
      deduplication: indexState === "online" || indexState === "opening",
      indexState,
      clients,
      space: spaceOf(statistics),
      activity: last === undefined ? null : activityOf(last),
      statistics,
    };
  }

  /** Throws `VDO_WRONG_STATE` for a volume whose settings cannot change now, and what the volume throws. */
  async setSwitch(name: SwitchName, on: boolean): Promise<void> {
    const { stage, isServedReadOnly, volume } = this.#daemon;
    const refuse = (text: string): never => {
      throw commandError("VDO_WRONG_STATE", text, this.#daemon.name);
    };
    if (stage !== "ready") refuse(`VDO ${this.#daemon.name} is ${stage}; try again when it is ready`);
    if (isServedReadOnly)
      refuse(`VDO ${this.#daemon.name} is served read-only; start it without --readOnly to change it`);
    await this.#moveSwitch(name, on);
    // The configuration may have said so already, while the running volume was told otherwise.
    const { compression, indexState } = volume.status();
    if (name === "compression" && compression !== on) await volume.setCompression(on);
    const deduplicates = indexState === "online" || indexState === "opening";
    if (name === "deduplication" && deduplicates !== on) await volume.indexMessage(on ? "enable" : "close");
  }
}

type OpenPart = Pick<
  VolumeSnapshot,
  | ("startedAt" | "mode" | "attachedAs" | "uuid" | "compression" | "deduplication" | "indexState" | "clients")
  | ("space" | "activity" | "statistics")
>;

/** What is known before the volume is open. */
const UNOPENED: OpenPart = {
  startedAt: null,
  mode: null,
  attachedAs: null,
  uuid: null,
  compression: null,
  deduplication: null,
  indexState: null,
  clients: 0,
  space: null,
  activity: null,
  statistics: null,
};

/** Null for what `vdostats` shows as N/A. */
function spaceOf(statistics: VolumeStatistics): VolumeSpace | null {
  const { mode, inRecoveryMode, blockSize, physicalBlocks, dataBlocksUsed, overheadBlocksUsed } = statistics;
  if (inRecoveryMode || mode !== "normal") return null;
  const used = usedBlocks(statistics);
  return {
    physicalBytes: physicalBlocks * blockSize,
    usedBytes: used * blockSize,
    dataBytes: dataBlocksUsed * blockSize,
    overheadBytes: overheadBlocksUsed * blockSize,
    availableBytes: Math.max(0, physicalBlocks - used) * blockSize,
    usedPercent: usePercent(statistics),
    logicalBytes: statistics.logicalBlocks * blockSize,
    logicalUsedBytes: statistics.logicalBlocksUsed * blockSize,
    savingPercent: savingPercent(statistics) ?? null,
  };
}

function ratesBetween(before: ClientActivity, after: ClientActivity, seconds: number): ActivityRates | undefined {
  if (seconds <= 0) return undefined;
  const rates: Partial<ActivityRates> = {};
  for (const operation of CLIENT_OPERATIONS) {
    const requests = after[operation].requests - before[operation].requests;
    const waited = after[operation].seconds - before[operation].seconds;
    rates[operation] = {
      requestsPerSecond: requests / seconds,
      bytesPerSecond: (after[operation].bytes - before[operation].bytes) / seconds,
      milliseconds: requests === 0 ? null : (1000 * waited) / requests,
    };
  }
  return rates as ActivityRates;
}

const activityOf = ({ read, write, flush, discard }: ActivitySample): ActivityRates => ({
  read,
  write,
  flush,
  discard,
});
