/** What a volume takes of the machine's memory. */
import type { VolumeSettings } from "../config/volume-settings.ts";
import type { Environment } from "../host/environment.ts";
import { renderFormatterSize } from "../size.ts";

/** One line for people, said before the memory is taken. */
export function memoryLine({ environment }: { environment: Environment }, settings: VolumeSettings): string {
  const volume = { indexMemory: settings.indexMemory, indexSparse: settings.indexSparse === "enabled" };
  const options = { blockMapCacheBlocks: Math.floor(settings.blockMapCacheSize / 4096) };
  const { total, parts } = environment.engine.memoryNeeded(volume, options);
  const details = parts.map(([what, bytes]) => `${what} ${renderFormatterSize(bytes)}`).join(", ");
  return `While it runs, the volume needs ${renderFormatterSize(total)} of memory (${details}).`;
}
