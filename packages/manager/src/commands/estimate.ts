/** `vdo estimate`: what a volume would save on files, folders and devices. They are only read. */
import { mkdtemp, open, opendir, rm, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { errorMessage } from "@vdo/base";
import { FileDevice } from "@vdo/block-device";
import { type SavingsEstimate, SavingsEstimator } from "@vdo/kvdo";
import { indexMemory } from "@vdo/uds";
import { commandError } from "../errors.ts";
import { deviceNumber, examineStorage } from "../host/storage-location.ts";
import { renderFormatterSize } from "../size.ts";
import type { CommandContext } from "./context.ts";

const BLOCK = 4096;
const PIECE_BYTES = 1024 * 1024;

export interface EstimateOptions {
  paths: readonly string[];
  /** GiB. */
  indexMemory: number;
  indexSparse: boolean;
  compression: boolean;
  deduplication: boolean;
  onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined;
}

export interface EstimateReport extends SavingsEstimate {
  files: number;
  /** What could not be read: told of, and left out. */
  unreadableFiles: number;
  /** 100 × (blocks − dataBlocks) ÷ blocks, as a volume's `saving percent`, with a fraction. */
  savingPercent: number;
}

/** Looks at everything below the paths. Throws `VDO_USER` for a path that does not exist. */
export async function estimate(context: CommandContext, options: EstimateOptions): Promise<EstimateReport> {
  const { environment, log } = context;
  let total = 0;
  for await (const file of regularFiles(options, () => undefined)) total += file.bytes;
  const geometry = { memory: options.indexMemory, sparse: options.indexSparse };
  const need = indexMemory(geometry);
  log.step(`the index takes ${renderFormatterSize(need.total)} of memory`);
  const device = await scratchDevice(environment.temporaryFolder, need.storage);
  try {
    const { compression, deduplication } = options;
    const estimator = await SavingsEstimator.open({ ...geometry, device, compression, deduplication });
    return await readAll(context, { estimator, options, total });
  } finally {
    await device.close();
  }
}

/** Sparse storage of the index, without a name: it is gone however the program ends. */
async function scratchDevice(parent: string, bytes: number): Promise<FileDevice> {
  const folder = await mkdtemp(join(parent, "vdo-estimate-"));
  try {
    const path = join(folder, "index");
    const handle = await open(path, "wx", 0o600);
    await handle.truncate(bytes);
    await handle.close();
    return await FileDevice.open({ path });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

interface Reading {
  estimator: SavingsEstimator;
  options: EstimateOptions;
  total: number;
}

async function readAll({ log }: CommandContext, { estimator, options, total }: Reading): Promise<EstimateReport> {
  const counts = { files: 0, unreadableFiles: 0 };
  const refuse = (path: string, error: unknown): void => {
    counts.unreadableFiles++;
    log.warning(`left out: ${path}: ${errorMessage(error)}`);
  };
  const pieces = [new Uint8Array(PIECE_BYTES), new Uint8Array(PIECE_BYTES)] as const;
  let done = 0;
  for await (const file of regularFiles(options, refuse)) {
    try {
      await readFile(file.path, pieces, async (data, bytes) => {
        await estimator.add(data);
        done += bytes;
        options.onProgress?.(Math.min(done, total), total);
      });
      counts.files++;
    } catch (error) {
      refuse(file.path, error);
    }
  }
  const result = await estimator.finish();
  const savingPercent = result.blocks === 0 ? 0 : (100 * (result.blocks - result.dataBlocks)) / result.blocks;
  return { ...counts, ...result, savingPercent };
}

interface FoundFile {
  path: string;
  bytes: number;
}

/**
 * Regular files and block devices below the paths, each once however many names it has on the command line; links are not
 * followed. Hard links inside folders count each time, as a copy of the folder would have them.
 */
async function* regularFiles(
  { paths }: EstimateOptions,
  refuse: (path: string, error: unknown) => void,
): AsyncGenerator<FoundFile> {
  const seen = new Set<string>();
  for (const given of paths) {
    const path = resolve(given);
    const stats = await stat(path).catch((error: unknown) => {
      throw commandError("VDO_USER", `Cannot look at ${given}: ${errorMessage(error)}`, given, error);
    });
    const identity = stats.isBlockDevice() ? `block-${deviceNumber(stats)}` : `${stats.dev}-${stats.ino}`;
    if (seen.has(identity)) continue;
    seen.add(identity);
    if (stats.isDirectory()) yield* filesBelow(path, refuse);
    else if (stats.isFile() || stats.isBlockDevice())
      yield { path, bytes: (await examineStorage(path, "estimate")).bytes };
    else throw commandError("VDO_USER", `${given} is neither a file, a folder nor a block device`, given);
  }
}

async function* filesBelow(folder: string, refuse: (path: string, error: unknown) => void): AsyncGenerator<FoundFile> {
  try {
    for await (const entry of await opendir(folder)) {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) yield* filesBelow(path, refuse);
      else if (entry.isFile()) {
        const stats = await stat(path).catch((error: unknown) => refuse(path, error));
        if (stats !== undefined) yield { path, bytes: stats.size };
      }
    }
  } catch (error) {
    refuse(folder, error);
  }
}

/** Gives a file in pieces of whole blocks, the last filled up with zeros; the next is read while one is looked at. */
async function readFile(
  path: string,
  pieces: readonly [Uint8Array, Uint8Array],
  take: (data: Uint8Array, bytes: number) => Promise<void>,
): Promise<void> {
  const handle = await open(path, "r");
  try {
    let offset = 0;
    let turn = 0;
    const next = async (piece: Uint8Array): Promise<number> => {
      let length = 0;
      while (length < piece.length) {
        const { bytesRead } = await handle.read(piece, length, piece.length - length, offset);
        if (bytesRead === 0) break;
        length += bytesRead;
        offset += bytesRead;
      }
      return length;
    };
    let length = await next(pieces[0]);
    while (length > 0) {
      const piece = pieces[turn] as Uint8Array;
      const whole = Math.ceil(length / BLOCK) * BLOCK;
      piece.fill(0, length, whole);
      turn = 1 - turn;
      const reading = length < PIECE_BYTES ? Promise.resolve(0) : next(pieces[turn] as Uint8Array);
      const [following] = await Promise.all([reading, take(piece.subarray(0, whole), length)]);
      length = following;
    }
  } finally {
    await handle.close();
  }
}

/** The report for people. */
export function estimateLines(report: EstimateReport): string[] {
  const size = (blocks: number): string => `${renderFormatterSize(blocks * BLOCK)} (${blocks} blocks)`;
  const { blocks, zeroBlocks, duplicateBlocks, compressedFragments, compressedBlocks, dataBlocks } = report;
  return [
    `Looked at ${report.files} ${report.files === 1 ? "file" : "files"}${
      report.unreadableFiles === 0 ? "" : `; ${report.unreadableFiles} could not be read`
    }`,
    `  data:                    ${size(blocks)}`,
    `  zeros:                   ${size(zeroBlocks)}`,
    `  duplicates:              ${size(duplicateBlocks)}`,
    `  saved by compression:    ${size(compressedFragments - compressedBlocks)}`,
    `  would take on a volume:  ${size(dataBlocks)}`,
    `  saving:                  ${report.savingPercent.toFixed(1)}%`,
  ];
}
