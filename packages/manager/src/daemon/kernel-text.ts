/**
 * The texts by which the kernel's dm-vdo describes a volume: status line, table line, and the answer to the message
 * `config`, byte for byte as Linux 6.12 prints them.
 */
import type { VolumeSettings } from "../config/volume-settings.ts";
import type { VolumeProperties, VolumeStatus } from "../engine.ts";

/** The ten fields of the status line. */
export function statusLine(device: string, logicalBlocks: number, status: VolumeStatus): string {
  const { mode, recovering, indexState, compression, usedBlocks, totalBlocks } = status;
  const words = [device, mode, recovering ? "recovering" : "-", indexState, compression ? "online" : "offline"];
  return `0 ${logicalBlocks * 8} vdo ${words.join(" ")} ${usedBlocks} ${totalBlocks}`;
}

/** Index state and compression switch of a status line, counted from its end: the path of the storage may hold blanks. */
export function readStatusLine(line: string): { indexState: string; compression: boolean } {
  const fields = line.split(" ");
  return { indexState: fields.at(-4) ?? "unknown", compression: fields.at(-3) === "online" };
}

/** The V4 line that would start the volume in the kernel. */
export function tableLine(settings: VolumeSettings, { physicalBlocks, logicalBlocks }: VolumeProperties): string {
  const fixed = ["V4", settings.device, physicalBlocks, settings.logicalBlockSize];
  const cache = [Math.floor(settings.blockMapCacheSize / 4096), settings.blockMapPeriod];
  const pairs = {
    maxDiscard: settings.maxDiscardSize / 4096,
    ack: settings.ackThreads,
    bio: settings.bioThreads,
    bioRotationInterval: settings.bioRotationInterval,
    cpu: settings.cpuThreads,
    hash: settings.hashZoneThreads,
    logical: settings.logicalThreads,
    physical: settings.physicalThreads,
    deduplication: settings.deduplication === "enabled" ? "on" : "off",
    compression: settings.compression === "enabled" ? "on" : "off",
  };
  return ["0", logicalBlocks * 8, "vdo", ...fixed, ...cache, ...Object.entries(pairs).flat()].join(" ");
}

/** Answer to the message `config`: sizes in bytes, the slab size in blocks. */
export function configText(volume: VolumeProperties): string {
  const { physicalBlocks, logicalBlocks, slabBlocks, indexMemory, indexSparse } = volume;
  const memory = Number.isInteger(indexMemory) ? String(indexMemory) : indexMemory.toFixed(2);
  const sizes = `physicalSize : ${physicalBlocks * 4096}, logicalSize : ${logicalBlocks * 4096}, slabSize : ${slabBlocks}`;
  return `{ version : 1, ${sizes}, index :  { memorySize : ${memory}, isSparse : ${indexSparse ? 1 : 0}, }, }`;
}
