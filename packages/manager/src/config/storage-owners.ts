/** Who of the configuration lies on which storage. */
import { commandError } from "../errors.ts";
import { locateStorage } from "../host/storage-location.ts";
import type { Configuration } from "./configuration.ts";

/** No configured volume or pool is stored on the same device or file, by whatever path. Throws `VDO_USER`. */
export async function checkStorageFree({ volumes, pools }: Configuration, device: string): Promise<void> {
  const { identity } = await locateStorage(device, "create");
  const owned: { path: string; what: string }[] = [];
  for (const settings of volumes.values()) owned.push({ path: settings.device, what: "VDO use" });
  for (const pool of pools.values()) {
    for (const path of [pool.device, pool.metadataDevice, pool.dataDevice]) {
      if (path !== "") owned.push({ path, what: `thin pool ${pool.name}` });
    }
  }
  for (const { path, what } of owned) {
    const other = await locateStorage(path, "create").catch(() => undefined);
    if (other?.identity === identity) {
      throw commandError("VDO_USER", `Device ${device} already configured for ${what}`, device);
    }
  }
}
