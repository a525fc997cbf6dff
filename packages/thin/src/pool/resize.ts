/** Takes the sizes of the devices, as the kernel does when a pool is resumed: data first, then metadata, one commit. */
import { VdoError } from "@vdo/base";
import type { BlockDevice } from "@vdo/block-device";
import { SECTOR_BYTES } from "../constants.ts";
import type { PoolCore } from "./pool-core.ts";

export interface ResizeOptions {
  /** The data device. */
  device: BlockDevice;
  /** Sectors of it to use; all unless told. */
  dataSectors: number | undefined;
  /** Called when the sizes are known to be right, alone in the pool, before they are taken. */
  load?(): void;
}

/** Alone in the pool. Throws `VDO_THIN_MISMATCH` when a device is smaller than it was. */
export function resizePool(core: PoolCore, { device, dataSectors, load }: ResizeOptions): Promise<void> {
  const deviceBytes = device.blockCount * device.blockSize;
  const bytes = dataSectors === undefined ? deviceBytes : Math.min(dataSectors * SECTOR_BYTES, deviceBytes);
  const dataBlocks = Math.floor(bytes / core.blockBytes);
  return core.gate.alone(async () => {
    const { metadata } = core;
    checkNotSmaller(core, dataBlocks);
    load?.();
    core.rearm();
    const growsData = dataBlocks > metadata.dataBlocks;
    const growsMetadata = metadata.metadataDeviceBlocks > metadata.metadataBlocks;
    if (core.features.readOnly || core.mode === "read_only" || core.mode === "fail") {
      if (!metadata.needsCheck) return;
      if (growsData) core.tell("log", "unable to grow the data device until repaired.");
      if (growsMetadata) core.tell("log", "unable to grow the metadata device until repaired.");
      return;
    }
    if (growsData) {
      if (metadata.dataBlocks > 0) {
        core.tell("log", `growing the data device from ${metadata.dataBlocks} to ${dataBlocks} blocks`);
      }
      await metadata.growData(dataBlocks);
    }
    if (growsMetadata) {
      const blocks = metadata.metadataDeviceBlocks;
      core.tell("log", `growing the metadata device from ${metadata.metadataBlocks} to ${blocks} blocks`);
      if (core.mode === "out_of_metadata_space") core.setMode("write");
      await metadata.growMetadata(blocks);
    }
    await core.commitInside();
  });
}

function checkNotSmaller({ metadata }: PoolCore, dataBlocks: number): void {
  if (dataBlocks < metadata.dataBlocks) {
    throw tooSmall(
      `pool target (${dataBlocks} blocks) too small: expected ${metadata.dataBlocks}`,
      metadata.dataBlocks,
      dataBlocks,
    );
  }
  const { metadataDeviceBlocks: blocks, metadataBlocks } = metadata;
  if (blocks < metadataBlocks) {
    throw tooSmall(`metadata device (${blocks} blocks) too small: expected ${metadataBlocks}`, metadataBlocks, blocks);
  }
}

function tooSmall(message: string, expected: number, actual: number): VdoError {
  return new VdoError("VDO_THIN_MISMATCH", `${message}; give it its former size`, { field: "size", expected, actual });
}
