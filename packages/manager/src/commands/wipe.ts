/** Making a volume unfindable: its geometry block is cleared, everything else stays and could be rescued. */
import { zeroBlocks } from "@vdo/block-device";
import { openStorage } from "../host/storage.ts";
import type { CommandContext } from "./context.ts";

/** Overwrites the geometry block with zeros, durably. Throws `VDO_WRONG_STATE` when the storage is in use. */
export async function clearFirstBlock({ environment, paths }: CommandContext, path: string): Promise<void> {
  const storage = await openStorage({ path, readOnly: false, command: "remove", environment, paths });
  try {
    await zeroBlocks(storage.device, 0, 1);
    await storage.device.flush();
  } finally {
    await storage.release();
  }
}
