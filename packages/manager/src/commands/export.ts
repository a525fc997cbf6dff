/**
 * `vdo export`: what a volume holds, as a disk image, without starting the volume and without writing to it. Works from
 * volumes that are clean, not stopped cleanly (what their journal says is applied in memory), read-only or damaged: what
 * cannot be read becomes zeros in the image and is told of.
 */
import { mkdtemp, open, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { NbdServer } from "@vdo/nbd";
import { withoutHeader } from "../daemon/headerless-volume.ts";
import { commandError, placeError } from "../errors.ts";
import { mustRun } from "../host/programs.ts";
import { openStorage } from "../host/storage.ts";
import { locateStorage } from "../host/storage-location.ts";
import { completedDevice } from "../rescue/completed-device.ts";
import { copyBlocks } from "../rescue/copy-blocks.ts";
import { deviceSource } from "../rescue/open-source.ts";
import { SalvageDevice } from "../rescue/salvage-device.ts";
import { renderFormatterSize } from "../size.ts";
import type { CommandContext } from "./context.ts";
import { runningOn, type ToolOutput } from "./offline.ts";

const BLOCK = 4096;

/** Pages of the block map that are kept in memory: reading in order needs few. */
const CACHE_BLOCKS = 4096;

/** Damaged ranges that are printed one by one. */
const RANGES_SHOWN = 100;

export const IMAGE_FORMATS = ["raw", "qcow2"] as const;
export type ImageFormat = (typeof IMAGE_FORMATS)[number];

export interface ExportVolumeOptions {
  /** The file that is made. */
  output: string;
  format: ImageFormat;
  /** Replace a file that exists. */
  force: boolean;
  /** Bytes at either end that are left out: LVM's header. */
  skipHeader: number;
  lines: ToolOutput;
  onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined;
}

/** Resolves with 0, or with 1 when parts of the volume could not be read. Throws when there is no volume to be read at all. */
export async function exportVolume(
  context: CommandContext,
  device: string,
  options: ExportVolumeOptions,
): Promise<number> {
  const { environment, paths } = context;
  const info = await locateStorage(device, "export");
  const running = await runningOn(context, info);
  if (running !== undefined) {
    const text = `VDO volume ${running} is running; stop it, or copy from its NBD URI`;
    throw commandError("VDO_WRONG_STATE", text, running);
  }
  await checkOutput(options, info.identity);
  const storage = await openStorage({ path: info.path, readOnly: true, command: "export", environment, paths });
  try {
    return await withVolume(context, { device, storage: storage.device, options });
  } finally {
    await storage.release();
  }
}

async function checkOutput({ output, force }: ExportVolumeOptions, sourceIdentity: string): Promise<void> {
  const existing = await stat(output).catch(() => undefined);
  if (existing === undefined) return;
  if (!existing.isFile()) throw commandError("VDO_USER", `${output} is no regular file`, output);
  if ((await locateStorage(output, "export")).identity === sourceIdentity) {
    throw commandError("VDO_USER", `${output} is the storage of the volume itself`, output);
  }
  if (!force) throw commandError("VDO_USER", `${output} exists already; replace it with --force`, output);
}

interface ExportWork {
  device: string;
  storage: Parameters<CommandContext["environment"]["engine"]["open"]>[0];
  options: ExportVolumeOptions;
}

async function withVolume(context: CommandContext, { device, storage: given, options }: ExportWork): Promise<number> {
  const { environment, log } = context;
  const { engine } = environment;
  try {
    let isWhole = true;
    const warn = (text: string, loses = true): void => {
      if (loses) isWhole = false;
      log.warning(text);
    };
    const storage = await completedDevice(given, (text, loses) => warn(`${device}: ${text}`, loses));
    const { state } = await engine.inspect(storage);
    log.announce(`Exporting ${device} (state ${state}) to ${options.output}`);
    const volume = await engine.open(storage, {
      readOnly: true,
      compression: false,
      deduplication: false,
      blockMapCacheBlocks: CACHE_BLOCKS,
      maximumAge: 16380,
      maxDiscardBlocks: 1,
      logicalBlockSize: BLOCK,
      log: (level, text) => (level === "info" ? log.step(text) : warn(text)),
    });
    try {
      const status = await writeImage(context, new SalvageDevice(withoutHeader(volume, options.skipHeader)), options);
      if (status !== 0 || isWhole) return status;
      options.lines.out(
        "But the volume was not whole, as the warnings say: parts may be older than what was written last.",
      );
      return 1;
    } finally {
      await volume.close();
    }
  } catch (error) {
    throw placeError(error, device);
  }
}

async function writeImage(
  context: CommandContext,
  salvage: SalvageDevice,
  options: ExportVolumeOptions,
): Promise<number> {
  const taken =
    options.format === "raw" ? await writeRaw(salvage, options) : await writeQcow2(context, salvage, options.output);
  const { blocks, ranges } = salvage.damage();
  const size = renderFormatterSize(salvage.blockCount * BLOCK);
  const { out } = options.lines;
  out(taken === undefined ? `Exported ${size}.` : `Exported ${size}, ${renderFormatterSize(taken)} of it data.`);
  if (blocks === 0) {
    out("Everything could be read.");
    return 0;
  }
  out(`${blocks} of ${salvage.blockCount} logical blocks could not be read; they are zeros in ${options.output}:`);
  for (const { start, count, reason } of ranges.slice(0, RANGES_SHOWN)) {
    out(`  ${count === 1 ? `block ${start}` : `blocks ${start} to ${start + count - 1}`}: ${reason}`);
  }
  if (ranges.length > RANGES_SHOWN) out(`  and ${ranges.length - RANGES_SHOWN} ranges more`);
  return 1;
}

async function writeRaw(salvage: SalvageDevice, { output, onProgress }: ExportVolumeOptions): Promise<number> {
  const file = await open(output, "w", 0o600);
  try {
    await file.truncate(salvage.blockCount * BLOCK);
    const taken = await copyBlocks({
      source: deviceSource(salvage),
      take: async (offset, data) => {
        for (let at = 0; at < data.length; ) {
          at += (await file.write(data, at, data.length - at, offset + at)).bytesWritten;
        }
      },
      onProgress,
    });
    await file.sync();
    return taken;
  } finally {
    await file.close();
  }
}

/** qemu-img reads the volume from an NBD server of ours and writes the image. */
async function writeQcow2({ environment }: CommandContext, salvage: SalvageDevice, output: string): Promise<undefined> {
  if (environment.programs.find("qemu-img") === undefined) {
    const text = "qemu-img is not installed; it writes qcow2 images. Install it (qemu-utils), or use --format=raw";
    throw commandError("VDO_SYSTEM", text);
  }
  const folder = await mkdtemp(join(environment.temporaryFolder, "vdo-export-"));
  const server = new NbdServer({ exports: [{ name: "", device: salvage, readOnly: true }] });
  try {
    const path = join(folder, "s");
    await server.listen({ path });
    await mustRun(environment.programs, "qemu-img", [
      ...["convert", "-f", "raw", "-O", "qcow2", `nbd+unix:///?socket=${path}`, output],
    ]);
  } finally {
    await server.close();
    await rm(folder, { recursive: true, force: true });
  }
}
