/** Opens volumes that need recovery, and tells what became of them. */
import type { MemoryDevice } from "@vdo/block-device";
import { readVolumeInfo, VdoVolume, type VolumeOptions } from "../../src/index.ts";
import { audit } from "./audit.ts";
import { OPTIONS } from "./journal-image.ts";
import { settles } from "./settles.ts";

export type Mappings = Map<number, [pbn: number, state: number]>;

/** Resolves when no slab of `volume` is left to be recovered. */
export async function scrubbed(volume: VdoVolume): Promise<void> {
  const wait = async (): Promise<void> => {
    while (volume.status().recovering) await new Promise((resolve) => setTimeout(resolve, 1));
  };
  await settles("recovery of the slabs", wait());
}

export interface Recovered {
  /** Mode right after the start, and state on storage after the stop. */
  mode: string;
  state: string;
  problems: string[];
  mappings: Mappings;
  completeRecoveries: number;
  readOnlyRecoveries: number;
}

/** Opens the volume on `device`, lets it recover, stops and audits it. Throws what opening throws. */
export async function recovered(device: MemoryDevice, options: VolumeOptions = {}): Promise<Recovered> {
  const volume = await VdoVolume.open(device, { ...OPTIONS, ...options });
  const { mode } = volume.status();
  if (mode !== "read-only") await scrubbed(volume);
  const { completeRecoveries, readOnlyRecoveries } = volume.statistics();
  await settles("close", volume.close());
  const { state } = await readVolumeInfo(device);
  const { problems, mappings } = await audit(device);
  return { mode, state, problems, mappings, completeRecoveries, readOnlyRecoveries };
}
