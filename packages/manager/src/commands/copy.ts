/** `vdo copy`: a new volume with the content of a file, a block device or an NBD export, read back and compared. */
import { firstDifference } from "@vdo/base";
import { NbdClient } from "@vdo/nbd";
import { nbdUri } from "../attach/attachment.ts";
import { commandError } from "../errors.ts";
import { locateStorage } from "../host/storage-location.ts";
import { copyBlocks } from "../rescue/copy-blocks.ts";
import { deviceSource, type OpenSource } from "../rescue/open-source.ts";
import { renderFormatterSize, renderSize } from "../size.ts";
import type { CommandContext } from "./context.ts";
import type { CreateOptions } from "./create.ts";

const BLOCK = 4096;

export interface CopyOptions extends CreateOptions {
  /** Path of a file or block device, or an NBD URI. */
  from: string;
  /** Read the volume back afterwards and compare it with the source. */
  verify: boolean;
  onProgress?: ((what: "copied" | "verified", doneBytes: number, totalBytes: number) => void) | undefined;
}

/** The options of the volume that is to hold `source`, checked before anything is written. */
export async function checkCopy(options: CopyOptions, source: OpenSource): Promise<CreateOptions> {
  const { settings, device, name, from } = options;
  const wanted = Math.ceil(source.bytes / BLOCK) * BLOCK;
  if (source.bytes === 0) throw commandError("VDO_USER", `${from} is empty: there is nothing to copy`, from);
  const target = await locateStorage(device, "copy").catch(() => undefined);
  if (source.identity !== undefined && target?.identity === source.identity) {
    throw commandError("VDO_USER", `${device} cannot be both source and storage of the new volume`, device);
  }
  if (settings.activated === "disabled") {
    throw commandError("VDO_USER", "the volume must run to be filled: copy does not take --activate=disabled", name);
  }
  const logicalSize = settings.logicalSize ?? 0;
  if (logicalSize !== 0 && logicalSize < wanted) {
    const text = `${from} has ${renderSize(wanted)}, more than --vdoLogicalSize: choose at least that`;
    throw commandError("VDO_USER", text, from);
  }
  return { ...options, settings: { ...settings, logicalSize: logicalSize === 0 ? wanted : logicalSize } };
}

/** Fills the running volume `name` from `source`, and compares. Throws `VDO_COMMAND_FAILED` at a difference. */
export async function fillVolume(
  { paths, log }: CommandContext,
  { name, from, verify, onProgress }: CopyOptions,
  source: OpenSource,
): Promise<void> {
  log.announce(`Copying ${renderFormatterSize(source.bytes)} from ${from} to VDO ${name}`);
  const client = await NbdClient.connect(nbdUri(name, paths.volume(name).nbdSocket));
  try {
    const copied = await copyBlocks({
      source,
      take: (offset, data) => client.write(offset / BLOCK, data),
      onProgress: onProgress && ((done, total) => onProgress("copied", done, total)),
    });
    await client.flush();
    log.announce(`      Copied ${renderFormatterSize(copied)}; the rest are zeros.`);
    if (!verify) return;
    await compare(source, client, onProgress && ((done, total) => onProgress("verified", done, total)));
    log.announce("      Verified: the volume holds what the source holds.");
  } finally {
    await client.close();
  }
}

/** Compares both ways: what either side holds, the other must hold. */
async function compare(
  source: OpenSource,
  client: NbdClient,
  onProgress: ((doneBytes: number, totalBytes: number) => void) | undefined,
): Promise<void> {
  const volume = deviceSource(client);
  const wanted = source.bytes;
  const sides = [
    { one: source, other: volume },
    { one: { ...volume, bytes: wanted }, other: source },
  ];
  for (const [side, { one, other }] of sides.entries()) {
    await copyBlocks({
      source: one,
      take: async (offset, data) => {
        const there = new Uint8Array(data.length);
        await other.read(offset, there);
        const at = firstDifference(there, data);
        if (at === -1) return;
        throw commandError(
          "VDO_COMMAND_FAILED",
          `the volume and the source differ at byte ${offset + at}: did the source change meanwhile?`,
        );
      },
      onProgress: onProgress && ((done, total) => onProgress((side * total + done) / sides.length, total)),
    });
  }
}
