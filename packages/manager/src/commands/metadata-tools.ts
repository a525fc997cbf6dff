/**
 * The tools that look at the metadata of a volume, and those that mend its first block, with the texts and exit statuses of the
 * stand-alone tools: vdodumpblockmap, vdolistmetadata, vdodumpmetadata and vdodebugmetadata (8.3), vdodumpconfig, vdosetuuid
 * and vdoregenerategeometry (6.2).
 */
import { type FileHandle, open } from "node:fs/promises";
import { isVdoError } from "@vdo/base";
import type { BlockDevice } from "@vdo/block-device";
import {
  type DumpedPages,
  dumpMetadata,
  findGeometries,
  type GeometryCandidate,
  MetadataDump,
  metadataRegions,
  StoppedVolume,
  writeGeometry,
} from "@vdo/kvdo";
import { accessError, advised, commandError, errnoOf, placeError } from "../errors.ts";
import { openStorage, openToRead } from "../host/storage.ts";
import { locateStorage } from "../host/storage-location.ts";
import { uuidBytes, uuidText } from "../values.ts";
import type { CommandContext } from "./context.ts";
import { runningOn, statusText, type ToolOutput, type ToolRequest } from "./offline.ts";

const BLOCK = 4096;

interface Tool {
  name: string;
  /** Check the figures of the super block against each other and the device. */
  validate: boolean;
  /** The last line of a failure ends with its reason. */
  saysWhy: boolean;
}

/** Opens what a tool reads and runs `body` on it; failures become the tool's own text and status 1. */
async function reading(
  context: CommandContext,
  { device: path, output }: ToolRequest,
  tool: Pick<Tool, "name" | "saysWhy"> & { failure?: string },
  body: (device: BlockDevice) => Promise<number>,
): Promise<number> {
  const fail = (first: string, reason: string): number => {
    output.err(`${tool.name}: ${first} ${reason}`);
    output.err(`${tool.name}: Could not load VDO from '${path}'${tool.saysWhy ? `: ${reason}` : ""}`);
    return 1;
  };
  const info = await locateStorage(path, tool.name).catch((error: unknown) => {
    if (errnoOf(error) !== "ENOENT") throw error;
  });
  if (info === undefined) return fail(`Failed to make FileLayer from '${path}' with`, "No such file or directory");
  const running = await runningOn(context, info);
  if (running !== undefined) {
    context.log.warning(`VDO volume ${running} is running: the answer is about a moving picture`);
  }
  const { device } = await openToRead(info.path, tool.name);
  try {
    return await body(device);
  } catch (error) {
    if (!isVdoError(error)) throw error;
    return fail(tool.failure ?? "loading VDO failed with:", statusText(error));
  } finally {
    await device.close();
  }
}

const DUMP_BLOCK_MAP: Tool = { name: "vdodumpblockmap", validate: true, saysWhy: true };

/** Prints every mapping, or that of logical block `lba`. */
export function dumpBlockMap(context: CommandContext, request: ToolRequest & { lba?: number | undefined }) {
  const { lba, output } = request;
  return reading(context, request, DUMP_BLOCK_MAP, async (device) => {
    const volume = await StoppedVolume.open(device, DUMP_BLOCK_MAP);
    if (lba !== undefined) return printMapping(volume, lba, output);
    for await (const { page, slot, height, pbn, state } of volume.entries()) {
      output.out(`PBN ${page}\t slot ${slot}\t height ${height}\t-> PBN ${pbn} (compression state ${state})`);
    }
    return 0;
  });
}

async function printMapping(volume: StoppedVolume, lba: number, { out, err }: ToolOutput): Promise<number> {
  const { logicalBlocks } = volume.superBlock.vdo.config;
  if (lba >= logicalBlocks) {
    err(`vdodumpblockmap: VDO has only ${logicalBlocks} logical blocks, cannot dump mapping for LBA ${lba}`);
    err(`vdodumpblockmap: Could not read mapping for lbn ${lba}`);
    return 1;
  }
  const { pbn, state } = await volume.mappingOf(lba);
  if (state === 0) out(`${lba}\tunmapped   \t${pbn}`);
  else if (state === 1) out(`${lba}\tmapped     \t${pbn}`);
  else out(`${lba}\tcompressed \t${pbn} slot ${state - 2}`);
  return 0;
}

const LIST_METADATA: Tool = { name: "vdolistmetadata", validate: false, saysWhy: false };

/** Prints where the metadata lies. */
export function listMetadata(context: CommandContext, request: ToolRequest): Promise<number> {
  return reading(context, request, LIST_METADATA, async (device) => {
    for (const { start, count, label } of metadataRegions(await StoppedVolume.open(device, LIST_METADATA))) {
      request.output.out(`${start} .. ${start + count - 1}: ${label}`);
    }
    return 0;
  });
}

const DUMP_METADATA: Tool = { name: "vdodumpmetadata", validate: false, saysWhy: false };

/** Copies the metadata to a file, which is created or replaced. */
export function copyMetadata(
  context: CommandContext,
  request: ToolRequest & { pages: DumpedPages; target: string },
): Promise<number> {
  const { pages, target, output } = request;
  return reading(context, request, DUMP_METADATA, async (device) => {
    const volume = await StoppedVolume.open(device, DUMP_METADATA);
    const { logicalBlocks } = volume.superBlock.vdo.config;
    const outside = typeof pages === "string" ? undefined : pages.lbns.find((lbn) => lbn >= logicalBlocks);
    if (outside !== undefined) {
      output.err(
        `vdodumpmetadata: VDO has only ${logicalBlocks} logical blocks, cannot dump mapping for LBA ${outside}`,
      );
      output.err(`vdodumpmetadata: Could not read block map for LBN ${outside}`);
      return 1;
    }
    const file = await open(target, "w").catch((error: unknown) => {
      throw accessError(error, target, "dumpMetadata");
    });
    try {
      await writeBlocks(file, dumpMetadata(volume, pages));
      await file.sync();
    } finally {
      await file.close();
    }
    return 0;
  });
}

/** Bytes gathered for one write. */
const WRITE_BYTES = 256 * BLOCK;

async function writeBlocks(file: FileHandle, pieces: AsyncIterable<Uint8Array>): Promise<void> {
  const buffer = new Uint8Array(WRITE_BYTES);
  let filled = 0;
  for await (const piece of pieces) {
    if (filled + piece.length > buffer.length) {
      await file.writeFile(buffer.subarray(0, filled));
      filled = 0;
    }
    if (piece.length === buffer.length) await file.writeFile(piece);
    else {
      buffer.set(piece, filled);
      filled += piece.length;
    }
  }
  await file.writeFile(buffer.subarray(0, filled));
}

/** Prints what the journals of a metadata dump say of physical and logical blocks. */
export function debugMetadata(
  context: CommandContext,
  request: ToolRequest & { pbns: readonly number[]; lbns: readonly number[] },
): Promise<number> {
  const { output, pbns, lbns, device: path } = request;
  const failure = `VDO geometry read failed for '${path}' with`;
  return reading(context, request, { name: "vdodebugmetadata", saysWhy: true, failure }, async (device) => {
    const dump = await MetadataDump.open(device);
    output.out(`Nonce value: ${dump.superBlock.vdo.nonce}`);
    for (const pbn of pbns) for await (const line of dump.searchPbn(pbn)) output.out(line);
    for (const lbn of lbns) for await (const line of dump.searchLbn(lbn)) output.out(line);
    return 0;
  });
}

/** Prints the configuration that is stored on the storage, as YAML. */
export async function dumpConfig(context: CommandContext, { device: path, output }: ToolRequest): Promise<number> {
  const { device } = await openToRead(path, "dumpConfig");
  try {
    const { geometry, superBlock } = await StoppedVolume.open(device, { validate: true });
    const { config, nonce } = superBlock.vdo;
    const lines = [
      "VDOConfig:",
      "  blockSize: 4096",
      `  logicalBlocks: ${config.logicalBlocks}`,
      `  physicalBlocks: ${config.physicalBlocks}`,
      `  slabSize: ${config.slabBlocks}`,
      `  recoveryJournalSize: ${config.recoveryJournalBlocks}`,
      `  slabJournalBlocks: ${config.slabJournalBlocks}`,
      `UUID: ${uuidText(geometry.uuid)}`,
      `ReleaseVersion: ${geometry.releaseNumber}`,
      `Nonce: ${nonce}`,
      `IndexRegion: ${geometry.indexStart}`,
      `DataRegion: ${geometry.dataStart}`,
      "IndexConfig:",
      `  memory: ${geometry.index.memory >>> 0}`,
      "  checkpointFrequency: 0",
      `  sparse: ${geometry.index.sparse !== 0}`,
    ];
    for (const line of lines) output.out(line);
    return 0;
  } catch (error) {
    if (!isVdoError(error)) throw error;
    output.err(`vdodumpconfig: Could not load VDO from '${path}'`);
    context.log.info(error.message);
    return 1;
  } finally {
    await device.close();
  }
}

/** Holds the storage of a volume that is not running, for writing. Throws `VDO_WRONG_STATE` for one that runs. */
async function writing<T>(
  context: CommandContext,
  path: string,
  command: string,
  body: (device: BlockDevice) => Promise<T>,
): Promise<T> {
  const { environment, paths } = context;
  const info = await locateStorage(path, command);
  const running = await runningOn(context, info);
  if (running !== undefined)
    throw commandError(
      "VDO_WRONG_STATE",
      advised(`VDO volume ${running} is running`, `Stop it first: vdo stop --name=${running}`),
      running,
    );
  const storage = await openStorage({ path: info.path, readOnly: false, command, environment, paths });
  try {
    return await body(storage.device);
  } catch (error) {
    throw placeError(error, path);
  } finally {
    await storage.release();
  }
}

/** Gives the volume the UUID, a new random one for the empty string. */
export async function setUuid(context: CommandContext, path: string, uuid: string): Promise<number> {
  await writing(context, path, "setUUID", (device) => context.environment.engine.setUuid(device, uuidBytes(uuid)));
  return 0;
}

/** Writes a new first block for a volume whose own was wiped; `offset`, in bytes, chooses among several candidates. */
export function regenerateGeometry(
  context: CommandContext,
  { device: path, output, offset }: ToolRequest & { offset?: number | undefined },
): Promise<number> {
  return writing(context, path, "regenerateGeometry", async (device) => {
    const all = await findGeometries(device, uuidBytes(""));
    const found = offset === undefined ? all : all.filter(({ block }) => block * BLOCK === offset);
    for (const candidate of found) {
      output.out(`Found candidate super block at block ${candidate.block} (${indexText(candidate, "GB")})`);
    }
    const [only] = found;
    if (only === undefined) {
      output.err(`No valid super block was found on ${path}`);
      return 1;
    }
    if (found.length > 1) {
      output.err(`There are ${found.length} candidates on ${path}; choose one with --offset:`);
      for (const candidate of found) output.err(`offset: ${candidate.block * BLOCK}, ${indexText(candidate, "")}`);
      return 1;
    }
    await writeGeometry(device, only);
    return 0;
  });
}

function indexText({ indexMemory, sparse }: GeometryCandidate, unit: string): string {
  return `index memory ${indexMemory}${unit}${sparse ? ", sparse" : ""}`;
}
