/**
 * The offline tools under their own names, with the options, usage lines and exit statuses that they have (tools 8.3.0, run with
 * every mistake that could be thought of; vdodumpconfig, vdosetuuid, vdoregenerategeometry as of 6.2). A link to the program
 * with one of these names is that tool: LVM's `global/vdo_format_executable` can be such a link.
 *
 * Not copied: that vdodumpblockmap and vdodebugmetadata go on after an unknown short option, and that `--lba=5x` means 5.
 */
import { randomUUID } from "node:crypto";
import { type GetoptOption, type Manager, type ToolOutput, uuid, type ValueCheck } from "@vdo/manager";
import { formatterSize, memory, number, slabBits } from "./values.ts";

/** What a tool is called with. */
export interface ToolCall {
  /** Values of the options, in the order of the command line; the empty string for a switch. */
  values: ReadonlyMap<string, readonly string[]>;
  operands: readonly [string, ...string[]];
  manager: Manager;
  output: ToolOutput;
  /** Prints what `--help` does. */
  help(): void;
}

export interface StandaloneTool {
  /** What it does, for its help. */
  purpose: string;
  usage: string;
  /** The usage follows the program's name and is followed by an empty line. */
  isUsagePrefixed: boolean;
  options: readonly (GetoptOption & { help: string })[];
  operands: number;
  run(call: ToolCall): Promise<number>;
}

/** A mistake in a value: its text, perhaps none, is printed before the usage line. */
export class ValueMistake extends Error {}

const HELP = { long: "help", short: "h", help: "print this help message and exit" } as const;
const VERSION = { long: "version", short: "V", help: "print the version and exit" } as const;
/** The tools that change the state of a volume have no short form of it. */
const LONG_VERSION = { long: "version", help: VERSION.help } as const;

function read<T>(text: string, check: ValueCheck<T>, mistake: string): T {
  try {
    return check(text);
  } catch {
    throw new ValueMistake(mistake);
  }
}

/** The last value of an option, read by `check`; `fallback` when it was not given. */
function last<T>({ values }: ToolCall, option: string, check: ValueCheck<T>, mistake: string, fallback: T): T {
  const text = values.get(option)?.at(-1);
  return text === undefined ? fallback : read(text, check, mistake);
}

function all({ values }: ToolCall, option: string, mistake: string): number[] {
  return (values.get(option) ?? []).map((text) => read(text, number, mistake));
}

/** EINVAL as an exit status. */
const INVALID_ARGUMENT = -22 & 0xff;

async function format(call: ToolCall): Promise<number> {
  const [device] = call.operands;
  const logicalSize = last(call, "logical-size", formatterSize, "", 0);
  const bits = last(call, "slab-bits", slabBits, "invalid slab bits, must be 13-23", 19);
  const indexText = call.values.get("uds-memory-size")?.at(-1) ?? "0.25";
  let indexMemory: number;
  try {
    indexMemory = memory(indexText);
  } catch {
    const where = /^\d+$/.test(indexText) ? `formatVDO failed on '${device}'` : "parseIndexConfig failed";
    call.output.err(`vdoformat: ${where}: Invalid argument`);
    return INVALID_ARGUMENT;
  }
  return call.manager.tools().format({
    device,
    output: call.output,
    logicalSize,
    slabBits: bits,
    indexMemory,
    sparse: call.values.has("uds-sparse"),
    force: call.values.has("force"),
    verbose: call.values.has("verbose"),
  });
}

const VDOFORMAT: StandaloneTool = {
  purpose: "makes a volume on a block device or a regular file",
  usage: "vdoformat [--help] [options...] filename",
  isUsagePrefixed: true,
  options: [
    { long: "force", short: "f", help: "format even what holds something known" },
    HELP,
    { long: "logical-size", short: "l", valued: true, help: "size that users see, in megabytes or with K, M, G, T, P" },
    { long: "slab-bits", short: "S", valued: true, help: "slabs have 2^bits blocks: 13 to 23, by default 19" },
    { long: "uds-checkpoint-frequency", short: "c", valued: true, help: "without effect: indexes have no checkpoints" },
    { long: "uds-memory-size", short: "m", valued: true, help: "memory of the index: 0.25, 0.5, 0.75, or gigabytes" },
    { long: "uds-sparse", short: "s", help: "make a sparse index" },
    { long: "verbose", short: "v", help: "tell what is formatted" },
    VERSION,
  ],
  operands: 1,
  run: format,
};

const VDOAUDIT: StandaloneTool = {
  purpose: "checks the reference counts of a volume that is not running",
  usage: "vdoaudit [--help] [ [--summary] | [--verbose] ] [--version] filename",
  isUsagePrefixed: false,
  options: [
    HELP,
    { long: "summary", short: "s", help: "print how many errors there are: the default" },
    { long: "verbose", short: "v", help: "print each error" },
    VERSION,
  ],
  operands: 1,
  run: ({ values, operands: [device], manager, output }) => {
    // The last of the two counts; `values` has them in the order in which they came last.
    const verbose = [...values.keys()].findLast((name) => name === "summary" || name === "verbose") === "verbose";
    return manager.audit({ device }, { verbose, output });
  },
};

const VDODUMPBLOCKMAP: StandaloneTool = {
  purpose: "prints what the logical blocks of a volume are mapped to",
  usage: "vdodumpblockmap [--help] [--lba=<lba>] [--version] <filename>",
  isUsagePrefixed: false,
  options: [HELP, { long: "lba", short: "l", valued: true, help: "only this logical block" }, VERSION],
  operands: 1,
  run: async ({ values, operands: [device], manager, output }) => {
    const text = values.get("lba")?.at(-1);
    let lba: number | undefined;
    try {
      lba = text === undefined ? undefined : number(text);
    } catch {
      output.err("vdodumpblockmap: No LBA specified");
      return 1;
    }
    return manager.tools().dumpBlockMap({ device }, { output, lba });
  },
};

const VDOLISTMETADATA: StandaloneTool = {
  purpose: "prints where the metadata of a volume lies",
  usage: "vdolistmetadata [--help] [--version] <vdoBackingDevice>",
  isUsagePrefixed: true,
  options: [HELP, VERSION],
  operands: 1,
  run: ({ operands: [device], manager, output }) => manager.tools().listMetadata({ device }, { output }),
};

const VDODUMPMETADATA: StandaloneTool = {
  purpose: "copies the metadata of a volume to a file",
  usage: "vdodumpmetadata [--help] [--no-block-map] [--lbn=<lbn>] [--version] vdoBacking outputFile",
  isUsagePrefixed: true,
  options: [
    HELP,
    { long: "lbn", short: "l", valued: true, help: "of the block map only the page of this block; repeatable" },
    { long: "no-block-map", short: "b", help: "leave out the block map" },
    VERSION,
  ],
  operands: 2,
  run: (call) => {
    const lbns = all(call, "lbn", "Cannot parse LBN as a number");
    const pages = lbns.length > 0 ? { lbns } : call.values.has("no-block-map") ? "none" : "all";
    const [device, target = ""] = call.operands;
    return call.manager.tools().dumpMetadata({ device }, { output: call.output, pages, target });
  },
};

const VDODEBUGMETADATA: StandaloneTool = {
  purpose: "searches what vdodumpmetadata wrote for entries of the journals",
  usage: "vdodebugmetadata [--help] [--pbn=<pbn>] [--searchLBN=<lbn>] [--version] filename",
  isUsagePrefixed: false,
  options: [
    HELP,
    { long: "pbn", short: "p", valued: true, help: "print slab journal entries of this physical block; repeatable" },
    { long: "searchLBN", short: "s", valued: true, help: "print recovery journal entries of this block; repeatable" },
    VERSION,
  ],
  operands: 1,
  run: async (call) => {
    const pbns = all(call, "pbn", "Cannot parse PBN as a number");
    const lbns = all(call, "searchLBN", "Cannot parse search LBN as a number");
    const [dump] = call.operands;
    const status = await call.manager.tools().debugMetadata(dump, { output: call.output, pbns, lbns });
    if (status === 0 && pbns.length + lbns.length === 0) call.help();
    return status;
  },
};

const VDOREADONLY: StandaloneTool = {
  purpose: "puts a volume that is not running into read-only mode",
  usage: "vdoreadonly [--help] filename",
  isUsagePrefixed: true,
  options: [HELP, LONG_VERSION],
  operands: 1,
  run: ({ operands: [device], manager, output }) => manager.setReadOnly({ device }, { output }),
};

const VDOFORCEREBUILD: StandaloneTool = {
  purpose: "has the next start rebuild a volume in read-only mode; 'vdo forceRebuild --dryRun' tells what that loses",
  usage: "vdoforcerebuild [--help] filename",
  isUsagePrefixed: true,
  options: [HELP, LONG_VERSION],
  operands: 1,
  // The tool has nothing to say when it succeeds.
  run: ({ operands: [device], manager, output }) =>
    manager.forceRebuild({ device }, { dryRun: false, output: { out: () => undefined, err: output.err } }),
};

const VDODUMPCONFIG: StandaloneTool = {
  purpose: "prints the configuration that is stored on a volume",
  usage: "vdodumpconfig [--help] [--version] filename",
  isUsagePrefixed: true,
  options: [HELP, VERSION],
  operands: 1,
  run: ({ operands: [device], manager, output }) => manager.tools().dumpConfig({ device }, { output }),
};

const VDOSETUUID: StandaloneTool = {
  purpose: "gives a volume another UUID",
  usage: "vdosetuuid [--help] [--uuid=<uuid>] [--version] filename",
  isUsagePrefixed: true,
  options: [HELP, { long: "uuid", short: "u", valued: true, help: "the UUID; without it a random one" }, VERSION],
  operands: 1,
  run: (call) => {
    const id = last(call, "uuid", uuid, "must be a valid UUID", "");
    return call.manager.tools().setUuid({ device: call.operands[0] }, id === "" ? randomUUID() : id);
  },
};

const VDOREGENERATEGEOMETRY: StandaloneTool = {
  purpose: "writes a new first block for a volume whose own was wiped",
  usage: "vdoregenerategeometry [--help] [--offset=<bytes>] [--version] filename",
  isUsagePrefixed: true,
  options: [HELP, { long: "offset", short: "o", valued: true, help: "which of several candidates" }, VERSION],
  operands: 1,
  run: (call) => {
    const mistake = "the offset must be a multiple of 4096";
    const offset = last<number | undefined>(call, "offset", number, mistake, undefined);
    if (offset !== undefined && offset % 4096 !== 0) throw new ValueMistake(mistake);
    return call.manager.tools().regenerateGeometry({ device: call.operands[0] }, { output: call.output, offset });
  },
};

/** Every tool by its name. */
export const STANDALONE_TOOLS: { readonly [name: string]: StandaloneTool } = {
  vdoaudit: VDOAUDIT,
  vdodebugmetadata: VDODEBUGMETADATA,
  vdodumpblockmap: VDODUMPBLOCKMAP,
  vdodumpconfig: VDODUMPCONFIG,
  vdodumpmetadata: VDODUMPMETADATA,
  vdoforcerebuild: VDOFORCEREBUILD,
  vdoformat: VDOFORMAT,
  vdolistmetadata: VDOLISTMETADATA,
  vdoreadonly: VDOREADONLY,
  vdoregenerategeometry: VDOREGENERATEGEOMETRY,
  vdosetuuid: VDOSETUUID,
};
