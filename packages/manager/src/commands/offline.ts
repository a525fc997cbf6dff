/**
 * The tools for volumes that are not running: `vdo audit`, `vdo forceRebuild`, `vdo setReadOnly`, with the texts and exit
 * statuses of vdoaudit, vdoforcerebuild and vdoreadonly (tools 8.3).
 */
import { errorMessage, isVdoError, type VdoError } from "@vdo/base";
import {
  auditVolume,
  forceRebuild,
  kernelStatus,
  type RebuildReport,
  readVolumeInfo,
  setReadOnly,
  type VolumeAudit,
} from "@vdo/kvdo";
import { readState, runningVolumes } from "../daemon/state.ts";
import { advised, commandError, errnoOf } from "../errors.ts";
import { openStorage, openToRead, type Storage } from "../host/storage.ts";
import { locateStorage, type StorageLocation } from "../host/storage-location.ts";
import type { CommandContext } from "./context.ts";

/** The storage of an offline tool: a path, or that of a configured volume. */
export type StorageChoice = { readonly device: string } | { readonly name: string };

/** Where the lines of a tool go. */
export interface ToolOutput {
  out(line: string): void;
  err(line: string): void;
}

export interface ToolRequest {
  /** Absolute path of the storage. */
  device: string;
  output: ToolOutput;
}

/** Exit status of vdoforcerebuild for a volume that is not in read-only mode: 1492, of which a shell sees the low byte. */
const NOT_READ_ONLY = { status: 1492 & 0xff, text: "VDO Status: The device is not in read-only mode" };
const ENOENT = 2;

/**
 * Checks the volume on `device` as vdoaudit does; resolves with its exit status. Findings that vdoaudit does not look for
 * follow under our own name, and make the status 1 too. Nothing is written.
 */
export async function audit(
  context: CommandContext,
  { device: path, output, verbose }: ToolRequest & { verbose: boolean },
): Promise<number> {
  const info = await locateStorage(path, "audit").catch((error: unknown) => {
    if (errnoOf(error) !== "ENOENT") throw error;
    output.err(`vdoaudit: Failed to make FileLayer from '${path}' with No such file or directory`);
    output.err(`vdoaudit: Could not load VDO from '${path}': No such file or directory`);
  });
  if (info === undefined) return 1;
  const running = await runningOn(context, info);
  if (running !== undefined) {
    context.log.warning(`VDO volume ${running} is running: the answer is about a moving picture`);
  }
  const { device } = await openToRead(info.path, "audit");
  try {
    const onLine = ({ stream, text }: { stream: "out" | "error"; text: string }): void =>
      stream === "out" ? output.out(text) : output.err(text);
    return report(await auditVolume(device, { name: path, verbose, onLine }), output);
  } catch (error) {
    if (!isVdoError(error)) throw error;
    output.err(`vdoaudit: loading VDO failed with: ${statusText(error)}`);
    output.err(`vdoaudit: Could not load VDO from '${path}': ${statusText(error)}`);
    return 1;
  } finally {
    await device.close();
  }
}

function report({ exitStatus, ownProblems }: VolumeAudit, output: ToolOutput): number {
  for (const problem of ownProblems) output.err(`vdo audit: ${problem}`);
  return exitStatus === 0 && ownProblems.length === 0 ? 0 : 1;
}

/**
 * Says what a rebuild of the volume on `device` keeps and loses and, without `dryRun`, has its next start rebuild it. Resolves
 * with the exit status of vdoforcerebuild. Throws `VDO_WRONG_STATE` for a volume that is running.
 */
export async function markForRebuild(
  context: CommandContext,
  { device: path, output, dryRun }: ToolRequest & { dryRun: boolean },
): Promise<number> {
  const tool = { name: "vdoforcerebuild", operation: "forceRebuild" };
  return withStopped(context, { path, readOnly: dryRun, output, tool }, async ({ device }) => {
    const { state } = await readVolumeInfo(device);
    if (state !== "READ_ONLY_MODE" && !(dryRun && state === "FORCE_REBUILD")) {
      output.err(`vdoforcerebuild: forceRebuild failed on '${path}': ${NOT_READ_ONLY.text}`);
      return NOT_READ_ONLY.status;
    }
    for (const line of rebuildLines(path, await forceRebuild(device, { dryRun: true }))) output.out(line);
    if (!dryRun) await forceRebuild(device);
    output.out(dryRun ? "Nothing was written." : "The next start of the volume rebuilds it.");
    return 0;
  });
}

/** What a rebuild does, in words. */
export function rebuildLines(path: string, report: RebuildReport): string[] {
  const { logicalBlocksUsed, blockMapDataBlocks, samples } = report;
  const losses = (
    [
      [
        "block of the recovery journal that is missing",
        "blocks of the recovery journal that are missing",
        "missingJournalBlocks",
      ],
      ["journal entry that cannot be right", "journal entries that cannot be right", "badJournalEntries"],
      ["block map page that cannot be used", "block map pages that cannot be used", "lostPages"],
      ["reference to a block map page", "references to block map pages", "erasedPages"],
      ["mapping of a logical block", "mappings of logical blocks", "erasedMappings"],
    ] as const
  ).flatMap(([one, many, key]) => (report[key] === 0 ? [] : [`  ${report[key]} ${report[key] === 1 ? one : many}`]));
  const keeps = `The rebuild of ${path} keeps ${logicalBlocksUsed} logical blocks and ${blockMapDataBlocks} block map pages`;
  if (losses.length === 0) return [`${keeps}, and loses nothing.`];
  return [`${keeps}, and loses:`, ...losses, ...samples.map((sample) => `    ${sample}`)];
}

/** Puts the volume on `device` into read-only mode; resolves with the exit status of vdoreadonly. Throws as above. */
export async function markReadOnly(context: CommandContext, { device: path, output }: ToolRequest): Promise<number> {
  const tool = { name: "vdoreadonly", operation: "setting read-only mode" };
  return withStopped(context, { path, readOnly: false, output, tool }, async ({ device }) => {
    await setReadOnly(device);
    return 0;
  });
}

interface StoppedWork {
  path: string;
  readOnly: boolean;
  output: ToolOutput;
  tool: { name: string; operation: string };
}

/** Holds the storage of a volume that is not running; failures become the tool's own text and status. */
async function withStopped(
  context: CommandContext,
  { path, readOnly, output, tool }: StoppedWork,
  body: (storage: Storage) => Promise<number>,
): Promise<number> {
  const { environment, paths } = context;
  const info = await locateStorage(path, tool.operation).catch((error: unknown) => {
    if (errnoOf(error) !== "ENOENT") throw error;
    output.err(`${tool.name}: makeFileLayer failed on '${path}'`);
  });
  if (info === undefined) return ENOENT;
  const running = await runningOn(context, info);
  if (running !== undefined)
    throw commandError(
      "VDO_WRONG_STATE",
      advised(`VDO volume ${running} is running`, `Stop it first: vdo stop --name=${running}`),
      running,
    );
  const storage = await openStorage({ path: info.path, readOnly, command: tool.operation, environment, paths });
  try {
    return await body(storage);
  } catch (error) {
    const status = isVdoError(error) ? kernelStatus(error.code) : undefined;
    if (status === undefined) throw error;
    output.err(`${tool.name}: ${tool.operation} failed on '${path}': ${statusText(error as VdoError)}`);
    return status.number & 0xff;
  } finally {
    await storage.release();
  }
}

/** Name of the volume that runs on the storage, if one does. */
export async function runningOn({ paths }: CommandContext, { path }: StorageLocation): Promise<string | undefined> {
  for (const name of await runningVolumes(paths)) {
    if ((await readState(paths.volume(name).stateFile))?.device === path) return name;
  }
  return undefined;
}

/** An error as the tools print it: `VDO Status: Bad magic number`. */
export function statusText(error: VdoError): string {
  const status = kernelStatus(error.code);
  return status === undefined ? errorMessage(error) : `${status.source}: ${status.text}`;
}
