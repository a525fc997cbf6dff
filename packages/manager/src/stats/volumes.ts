/** Which running volumes `vdostats` means, and what they report. */
import { realpath } from "node:fs/promises";
import { basename } from "node:path";
import { controlRequest } from "../control/client.ts";
import { readStatusLine } from "../daemon/kernel-text.ts";
import type { ClientActivity } from "../daemon/measured-device.ts";
import { type DaemonState, readState, runningVolumes } from "../daemon/state.ts";
import type { VolumeStatistics } from "../engine.ts";
import { advised, commandError } from "../errors.ts";
import type { ClientEnvironment } from "../host/environment.ts";
import { Paths } from "../host/paths.ts";

/** A running volume as the user named it. */
export interface ShownVolume {
  name: string;
  /** The operand as given; the name when there was none. */
  operand: string;
}

export interface SampledVolume extends ShownVolume {
  statistics: VolumeStatistics;
}

/** Everything that can be told of a running volume in numbers. */
export interface MeasuredVolume extends SampledVolume {
  /** State of the deduplication index, as in the status line. */
  indexState: string;
  compression: boolean;
  /** Undefined for a daemon of an older version, which does not count. */
  activity?: ClientActivity;
}

const START = "No volume of this user runs: vdo start --all serves those that are configured.";

export class RunningVolumes {
  readonly #paths: Paths;

  constructor(environment: ClientEnvironment) {
    this.#paths = new Paths(environment);
  }

  /** Every running volume, sorted by name. Throws `VDO_COMMAND_FAILED` when there is none. */
  async all(): Promise<ShownVolume[]> {
    const names = await runningVolumes(this.#paths);
    if (names.length === 0) throw commandError("VDO_COMMAND_FAILED", advised("Could not find any VDO devices", START));
    return names.map((name) => ({ name, operand: name }));
  }

  /**
   * The running volume that `operand` means: its name, `/dev/vdo/NAME`, `/dev/mapper/NAME`, or a path that leads to the
   * attached device or to the storage. Throws `VDO_COMMAND_FAILED`, `'OPERAND': Not a valid running VDO device`.
   */
  async find(operand: string): Promise<ShownVolume> {
    const names = await runningVolumes(this.#paths);
    if (names.includes(operand)) return { name: operand, operand };
    if (/^\/dev\/(vdo|mapper)\/[^/]+$/.test(operand) && names.includes(basename(operand))) {
      return { name: basename(operand), operand };
    }
    const target = operand.startsWith("/") ? await realpath(operand).catch(() => undefined) : undefined;
    for (const name of target === undefined ? [] : names) {
      const state = await readState(this.#paths.volume(name).stateFile);
      if (state !== undefined && devicesOf(state).includes(target as string)) return { name, operand };
    }
    throw commandError(
      "VDO_COMMAND_FAILED",
      advised(`'${operand}': Not a valid running VDO device`, "vdo list shows the running volumes."),
      operand,
    );
  }

  /** The volume with its present statistics. Throws `VDO_COMMAND_FAILED` when the daemon cannot tell. */
  async sample(volume: ShownVolume): Promise<SampledVolume> {
    const { name } = volume;
    try {
      const statistics = (await controlRequest(this.#paths.volume(name).controlSocket, "stats")) as VolumeStatistics;
      return { ...volume, statistics };
    } catch (error) {
      const text = `'${name}': Could not retrieve VDO device stats information`;
      throw commandError("VDO_COMMAND_FAILED", text, name, error);
    }
  }

  /** The volume with its statistics and what only the daemon knows. Throws as {@link sample}. */
  async measure(volume: ShownVolume): Promise<MeasuredVolume> {
    const sampled = await this.sample(volume);
    const { controlSocket } = this.#paths.volume(volume.name);
    const { indexState, compression } = readStatusLine(String(await controlRequest(controlSocket, "status")));
    const activity = await controlRequest(controlSocket, "activity").catch(() => undefined);
    return {
      ...sampled,
      indexState,
      compression,
      ...(activity === undefined ? {} : { activity: activity as ClientActivity }),
    };
  }
}

function devicesOf({ device, attach }: DaemonState): string[] {
  return [device, ...(attach.device === undefined ? [] : [attach.device]), attach.path];
}
