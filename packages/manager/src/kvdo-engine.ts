/** The engine of `@vdo/kvdo` behind the manager's narrow interface. */
import { errorMessage } from "@vdo/base";
import { format, planFormat, readVolumeInfo, setVolumeUuid, VdoVolume, type VolumeEvent } from "@vdo/kvdo";
import { indexMemory } from "@vdo/uds";
import type { Engine, MemoryNeed, OpenOptions } from "./engine.ts";

const MIB = 1024 ** 2;

/** Pool of requests in flight, journals, reference counts of the slabs in use, packer: measured, not fixed. */
const ENGINE_BYTES = 64 * MIB;

/** The runtime itself: code, heap and thread stacks of an idle daemon, measured with Node 20. */
const RUNTIME_BYTES = 60 * MIB;

/** Makes and opens volumes on the kernel's on-disk format. */
export const kvdoEngine: Engine = {
  plan: (blockCount, request) => planFormat(blockCount, request),
  format: (device, request) => format(device, { ...request, force: true }),
  inspect: (device) => readVolumeInfo(device),
  setUuid: (device, uuid) => setVolumeUuid(device, uuid),
  memoryNeeded,
  open: (device, { discardGroupBlocks: groupBlocks, ...options }) =>
    VdoVolume.open(device, {
      ...options,
      ...(groupBlocks === undefined ? {} : { discardStorage: { groupBlocks } }),
      prefaultIndex: true,
      onChange: (event) => reportChange(event, options),
    }),
};

/** Changes that an administrator wants to find in the log. */
function reportChange(event: VolumeEvent, { log, onRecovery }: OpenOptions): void {
  if (event.type === "recovery") {
    const { cause, phase, done, of } = event;
    onRecovery?.({ cause, phase, done, of });
  } else if (event.type === "full") log("warning", "the volume is full: writes of new data fail until space is freed");
  else if (event.type === "readOnly") {
    const text = `the volume is in read-only mode: ${errorMessage(event.error)}. Stop it, and check its storage`;
    log("error", text);
  }
}

function memoryNeeded(
  volume: { indexMemory: number; indexSparse: boolean },
  options: { blockMapCacheBlocks: number },
): MemoryNeed {
  const parts = [
    ["index", indexMemory({ memory: volume.indexMemory, sparse: volume.indexSparse }).total],
    ["block map cache", options.blockMapCacheBlocks * 4096],
    ["requests and journals", ENGINE_BYTES],
    ["runtime", RUNTIME_BYTES],
  ] as const;
  return { total: parts.reduce((sum, [, bytes]) => sum + bytes, 0), parts };
}
