/** What is known of a volume: from its storage, read without locking, or from its daemon. */
import type { VolumeSettings } from "../config/volume-settings.ts";
import { askIfRunning } from "../control/client.ts";
import type { StoredVolume } from "../engine.ts";
import { placeError } from "../errors.ts";
import { openToRead } from "../host/storage.ts";
import { uuidText } from "../values.ts";
import type { CommandContext } from "./context.ts";

export interface InspectedVolume extends StoredVolume {
  uuidText: string;
}

/** What a volume is, whether it runs or not. */
export type KnownVolume = Omit<InspectedVolume, "state" | "uuid">;

/** Asks the daemon of a volume that runs, whose storage may not let a second reader in, else the storage. */
export async function inspectVolume(
  context: CommandContext,
  { name, device }: Pick<VolumeSettings, "name" | "device">,
): Promise<KnownVolume> {
  const { controlSocket } = context.paths.volume(name);
  // One that is starting, or that belongs to another user, gives no answer.
  const known = await askIfRunning(controlSocket, "properties").catch(() => undefined);
  return known === undefined ? inspectStorage(context, device) : (known as KnownVolume);
}

/** Reads geometry and super block of `device`. Throws what the engine finds wrong, with the device's path. */
export async function inspectStorage({ environment }: CommandContext, device: string): Promise<InspectedVolume> {
  const { device: opened } = await openToRead(device, "status");
  try {
    const stored = await environment.engine.inspect(opened);
    return { ...stored, uuidText: uuidText(stored.uuid) };
  } catch (error) {
    throw placeError(error, device);
  } finally {
    await opened.close();
  }
}
