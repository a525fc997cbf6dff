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
/** Moves on the way at a time. */
const STEPS = 4;
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

/** Several steps are on the way at a time; the source's holes are not read. */
async function move(
  source: BlockDevice,
  { device, isNew }: Target,
  bytes: number,
  progress: PloopCopyOptions["progress"],
): Promise<void> {
  let next = 0;
  let moved = 0;
  const step = async (): Promise<void> => {
    const data = new Uint8Array(STEP_BYTES);
    while (next < bytes) {
      const at = next;
      const part = data.subarray(0, Math.min(STEP_BYTES, bytes - at));
      next += part.length;
      const [block, count] = [at / BLOCK, part.length / BLOCK];
      const isHole = await readsAsZeros(source, block, count);
      if (!isHole) await source.read(block, part);
      if (!isHole && !isZero(part)) await device.write(block, part);
      else if (!isNew) await zeroBlocks(device, block, count, { mayUnmap: true });
      moved += part.length;
      progress?.(moved, bytes);
    }
  };
  const results = await Promise.allSettled(Array.from({ length: STEPS }, step));
  for (const result of results) if (result.status === "rejected") throw result.reason;
}

async function readsAsZeros(source: BlockDevice, block: number, count: number): Promise<boolean> {
  if (source.extents === undefined) return false;
  const [first] = await source.extents(block, count);
  return first?.zero === true && first.count >= count;
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
      await move(source, { device, isNew }, bytes, progress);
      await device.flush();
    } finally {
      await device.close();
    }
    return bytes;
  } finally {
    await source.close();
  }
}
