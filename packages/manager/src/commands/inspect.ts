/** What the storage says about the volume on it, read without locking: also while the volume runs. */
import { FileDevice } from "@vdo/block-device";
import type { StoredVolume } from "../engine.ts";
import { placeError } from "../errors.ts";
import { examineStorage } from "../host/storage.ts";
import { uuidText } from "../values.ts";
import type { CommandContext } from "./context.ts";

export interface InspectedVolume extends StoredVolume {
  uuidText: string;
}

/** Reads geometry and super block of `device`. Throws what the engine finds wrong, with the device's path. */
export async function inspectStorage({ environment }: CommandContext, device: string): Promise<InspectedVolume> {
  const { path } = await examineStorage(device, "status");
  const file = await FileDevice.open({ path, readOnly: true });
  try {
    const stored = await environment.engine.inspect(file);
    return { ...stored, uuidText: uuidText(stored.uuid) };
  } catch (error) {
    throw placeError(error, device);
  } finally {
    await file.close();
  }
}
