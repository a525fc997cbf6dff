/** Who of the configuration lies on which storage. */
import { advised, commandError } from "../errors.ts";
import { locateStorage } from "../host/storage-location.ts";
import type { Configuration } from "./configuration.ts";

/** No configured volume or pool is stored on the same device or file, by whatever path. Throws `VDO_USER`. */
export async function checkStorageFree({ volumes, pools }: Configuration, device: string): Promise<void> {
  const { identity } = await locateStorage(device, "create");
  const owned: { path: string; what: string; next: string }[] = [];
  for (const { name, device: path } of volumes.values()) {
    owned.push({ path, what: "VDO use", next: `It holds the volume ${name}: vdo start --name=${name} serves it.` });
  }
  for (const pool of pools.values()) {
    for (const path of [pool.device, pool.metadataDevice, pool.dataDevice]) {
      const next = "Choose other storage, or remove the pool first.";
      if (path !== "") owned.push({ path, what: `thin pool ${pool.name}`, next });
    }
  }
  for (const { path, what, next } of owned) {
    const other = await locateStorage(path, "create").catch(() => undefined);
    if (other?.identity === identity) {
      throw commandError("VDO_USER", advised(`Device ${device} already configured for ${what}`, next), device);
    }
  }
}
