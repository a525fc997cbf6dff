/** `vdo format`: storage becomes a volume, without a configuration entry, as by vdoformat (tools 8.3). */
import { isVdoError, type VdoError } from "@vdo/base";
import { kernelStatus } from "@vdo/kvdo";
import type { FormatRequest } from "../engine.ts";
import { describeSignature, findSignatures } from "../host/signatures.ts";
import { openStorage } from "../host/storage.ts";
import type { CommandContext } from "./context.ts";
import { formatLines } from "./create.ts";
import { statusText, type ToolRequest } from "./offline.ts";

const BLOCK = 4096;

/** VDO Status: Out of range. */
const OUT_OF_RANGE = 1465;

/** Largest logical size: 4 PiB. */
const LOGICAL_BYTES_MAX = 2 ** 40 * BLOCK;

export interface FormatVolumeOptions extends ToolRequest, FormatRequest {
  force: boolean;
  verbose: boolean;
  /** Says more than vdoformat does about storage that is too small. */
  advises?: boolean;
}

/** Resolves with the tool's exit status. Nothing is written before every check has passed. */
export async function formatVolume(context: CommandContext, options: FormatVolumeOptions): Promise<number> {
  const { environment, paths } = context;
  const { device: path, output, logicalSize } = options;
  const refuse = (text: string, status = 1): number => {
    output.err(`vdoformat: ${text}`);
    return status;
  };
  if (logicalSize % BLOCK !== 0) return refuse(`logical size must be a multiple of block size ${BLOCK}`);
  if (logicalSize > LOGICAL_BYTES_MAX) {
    const text = `${logicalSize} requested logical space exceeds the maximum (${LOGICAL_BYTES_MAX})`;
    return refuse(`${text}: VDO Status: Out of range`, OUT_OF_RANGE & 0xff);
  }
  const storage = await openStorage({ path, readOnly: false, command: "format", environment, paths });
  try {
    const { device, info } = storage;
    const found = await findSignatures({
      device,
      path: info.path,
      programs: environment.programs,
      temporaryFolder: paths.shortFolder,
    });
    const lines = found.map((signature) => describeSignature(path, signature));
    if (lines.length > 0 && !options.force) {
      for (const line of lines) output.err(line);
      output.err("Cannot format device already containing a known signature!");
      output.err("If you are sure you want to format this device again, use the");
      output.err("--force option.");
      return refuse(`checkForSignaturesUsingBlkid failed on '${path}'`);
    }
    if (lines.length > 0) lines.push("Formatting device already containing a known signature.");
    for (const line of lines) output.out(line);
    if (options.verbose) output.out(verboseLine(path, logicalSize, device.blockCount));
    environment.engine.plan(device.blockCount, options);
    const figures = await environment.engine.format(device, options);
    for (const line of formatLines({ logicalSize }, figures)) output.out(line);
    return 0;
  } catch (error) {
    if (!isVdoError(error)) throw error;
    if (isVdoError(error, "VDO_DEVICE_TOO_SMALL")) {
      output.err(`Minimum required size for VDO volume: ${error.data.minimumBlocks * BLOCK} bytes`);
    }
    const status = refuse(`formatVDO failed on '${path}': ${statusText(error)}`, lowByte(error));
    if (options.advises === true && isVdoError(error, "VDO_DEVICE_TOO_SMALL")) {
      const index = `The index takes ${error.data.indexBlocks * BLOCK} bytes of it`;
      output.err(`${index}: use a larger device, smaller slabs (--slab-bits), or a smaller index.`);
    }
    if (isVdoError(error, "VDO_TOO_MANY_SLABS")) output.err("Reduce the device size or increase the slab size");
    context.log.info(error.message);
    return status;
  } finally {
    await storage.release();
  }
}

/** What a shell sees of the number with which the tools end (8.3.0). */
function lowByte(error: VdoError): number {
  return (kernelStatus(error.code)?.number ?? 1) & 0xff;
}

function verboseLine(path: string, logicalSize: number, physicalBlocks: number): string {
  const logical = logicalSize === 0 ? "default logical" : `${logicalSize / BLOCK} logical`;
  return `Formatting '${path}' with ${logical} and ${physicalBlocks} physical blocks of ${BLOCK} bytes.`;
}
