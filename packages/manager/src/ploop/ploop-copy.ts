/**
 * Content from any disk to any disk: a descriptor of ploop, a file or block device, or an NBD export, behind which a VDO or
 * thin volume may be. What reads as zeros is not written to disks that hold zeros already.
 */
import { open, stat } from "node:fs/promises";
import { isZero } from "@vdo/base";
import { type BlockDevice, FileDevice, zeroBlocks } from "@vdo/block-device";
import { NbdClient } from "@vdo/nbd";
import { commandError } from "../errors.ts";
import { isNbdUri } from "../host/storage-location.ts";
import { loadPloopDisk } from "./ploop-disk.ts";

/** Bytes moved at a time. */
const STEP_BYTES = 1 << 20;
const BLOCK = 512;

export interface PloopCopyOptions {
  from: string;
  to: string;
  progress?(done: number, total: number): void;
}

interface Target {
  device: BlockDevice;
  /** It is known to hold zeros. */
  isNew: boolean;
}

function isDescriptor(name: string): boolean {
  return name.endsWith(".xml");
}

async function openFrom(name: string): Promise<BlockDevice> {
  if (isNbdUri(name)) return NbdClient.connect(name, { blockSize: BLOCK, readOnly: true });
  if (isDescriptor(name)) return (await loadPloopDisk(name)).open({ readOnly: true });
  return FileDevice.open({ path: name, blockSize: BLOCK, readOnly: true });
}

/** A plain file that is not there is made. */
async function openTo(name: string, bytes: number): Promise<Target> {
  if (isNbdUri(name)) return { device: await NbdClient.connect(name, { blockSize: BLOCK }), isNew: false };
  if (isDescriptor(name)) return { device: await (await loadPloopDisk(name)).open(), isNew: false };
  const isNew = await stat(name).then(
    () => false,
    () => true,
  );
  if (isNew) {
    const handle = await open(name, "wx", 0o600);
    await handle.truncate(bytes);
    await handle.close();
  }
  return { device: await FileDevice.open({ path: name, blockSize: BLOCK }), isNew };
}

/** Copies; the target is durable when it resolves with the bytes of the disk. Throws `VDO_USER` for a target that is too small. */
export async function copyDisk({ from, to, progress }: PloopCopyOptions): Promise<number> {
  const source = await openFrom(from);
  try {
    const bytes = source.blockCount * source.blockSize;
    const { device, isNew } = await openTo(to, bytes);
    try {
      const room = device.blockCount * device.blockSize;
      if (room < bytes) throw commandError("VDO_USER", `${to} has ${room} bytes, ${bytes} are needed`, to);
      const data = new Uint8Array(STEP_BYTES);
      for (let done = 0; done < bytes; done += STEP_BYTES) {
        const part = data.subarray(0, Math.min(STEP_BYTES, bytes - done));
        await source.read(done / BLOCK, part);
        if (!isZero(part)) await device.write(done / BLOCK, part);
        else if (!isNew) await zeroBlocks(device, done / BLOCK, part.length / BLOCK, { mayUnmap: true });
        progress?.(done + part.length, bytes);
      }
      await device.flush();
    } finally {
      await device.close();
    }
    return bytes;
  } finally {
    await source.close();
  }
}
