/** Opens what is copied from: a regular file, a block device, or an NBD export. */
import { open } from "node:fs/promises";
import { isVdoError } from "@vdo/base";
import type { BlockDevice } from "@vdo/block-device";
import { ReconnectingNbdDevice } from "@vdo/nbd";
import { accessError, commandError } from "../errors.ts";
import { examineStorage, isNbdUri } from "../host/storage-location.ts";
import type { CopySource } from "./copy-blocks.ts";

export interface OpenSource extends CopySource {
  /** The same for every path to one storage; undefined for an NBD export. */
  readonly identity?: string;
  close(): Promise<void>;
}

/** Longest range that is asked for its holes at once. */
const EXTENT_BYTES_MAX = 1024 ** 4;

/** Opens a path or an NBD URI for reading. Throws `VDO_USER` for what cannot be opened. */
export async function openSource(from: string, command: string): Promise<OpenSource> {
  return isNbdUri(from) ? openExport(from) : openPath(from, command);
}

/** A connection that breaks is made anew. */
async function openExport(uri: string): Promise<OpenSource> {
  try {
    const client = await ReconnectingNbdDevice.connect(uri, { blockSize: 512, readOnly: true }).catch(
      (error: unknown) => {
        // A server of larger blocks.
        if (isVdoError(error, "VDO_BAD_ARGUMENT")) return ReconnectingNbdDevice.connect(uri, { readOnly: true });
        throw error;
      },
    );
    return deviceSource(client);
  } catch (error) {
    throw commandError("VDO_USER", `Cannot read ${uri}: ${(error as Error).message}`, uri, error);
  }
}

/** A block device as what is copied from; closing it closes the device. */
export function deviceSource(device: BlockDevice): OpenSource {
  const { blockSize } = device;
  const bytes = blockSize * device.blockCount;
  const source: OpenSource = {
    bytes,
    async read(offset, target) {
      const whole = Math.max(0, Math.min(target.length, bytes - offset));
      target.fill(0, whole);
      if (whole > 0) await device.read(offset / blockSize, target.subarray(0, whole));
    },
    close: () => device.close(),
  };
  if (device.extents === undefined) return source;
  source.zeroRun = async (offset, length) => {
    const count = Math.floor(Math.min(length, EXTENT_BYTES_MAX) / blockSize);
    if (count === 0) return 0;
    let run = 0;
    for (const extent of (await device.extents?.(offset / blockSize, count)) ?? []) {
      if (!extent.zero) break;
      run += extent.count * blockSize;
    }
    return run;
  };
  return source;
}

async function openPath(path: string, command: string): Promise<OpenSource> {
  const { bytes, identity, path: resolved } = await examineStorage(path, command);
  try {
    const handle = await open(resolved, "r");
    return {
      bytes,
      identity,
      async read(offset, target) {
        for (let at = 0; at < target.length; ) {
          const { bytesRead } = await handle.read(target, at, target.length - at, offset + at);
          if (bytesRead === 0) {
            target.fill(0, at);
            return;
          }
          at += bytesRead;
        }
      },
      close: () => handle.close(),
    };
  } catch (error) {
    throw accessError(error, path, command);
  }
}
