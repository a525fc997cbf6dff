/** Subcommands that stand for the stand-alone tools about metadata; their storage may be given as a plain word too. */
import { resolve } from "node:path";
import { uuid } from "@vdo/manager";
import { FILE, lines, toolStorage } from "./offline-tools.ts";
import { type OptionSpec, VERBOSE } from "./options.ts";
import { formatterSize, memory, number, slabBits } from "./standalone/values.ts";
import type { Subcommand } from "./subcommands.ts";

const numbers = (flag: "--lbn" | "--pbn" | "--searchLBN", short: string, help: string): OptionSpec => ({
  flags: [short, flag],
  metavar: "<number>",
  check: number,
  repeatable: true,
  help,
});

const list = (value: unknown): number[] => (value ?? []) as number[];

export const DUMP_BLOCK_MAP: Subcommand = {
  help: "Prints what the logical blocks of a stopped volume are mapped to.",
  selects: "tool",
  options: [{ flags: ["-l", "--lba"], metavar: "<number>", check: (text) => text, help: "Only this logical block." }],
  operands: [FILE],
  run: async ({ manager, streams }, args) => {
    const output = lines(streams);
    let lba: number | undefined;
    try {
      lba = typeof args["lba"] === "string" ? number(args["lba"]) : undefined;
    } catch {
      output.err("vdodumpblockmap: No LBA specified");
      return 1;
    }
    return manager.tools().dumpBlockMap(toolStorage(args), { output, lba });
  },
};

export const LIST_METADATA: Subcommand = {
  help: "Prints where the metadata of a volume lies.",
  selects: "tool",
  options: [],
  operands: [FILE],
  run: ({ manager, streams }, args) => manager.tools().listMetadata(toolStorage(args), { output: lines(streams) }),
};

export const DUMP_METADATA: Subcommand = {
  help: "Copies the metadata of a stopped volume to a file.",
  selects: "tool",
  options: [
    { flags: ["-b", "--no-block-map"], help: "Leaves out the block map." },
    numbers("--lbn", "-l", "Of the block map only the page of this logical block; may be given several times."),
  ],
  operands: [FILE, { name: "target", metavar: "OUTPUT", count: 1, help: "The file that is made." }],
  run: ({ manager, streams }, args) => {
    const lbns = list(args["lbn"]);
    const pages = lbns.length > 0 ? { lbns } : args["no_block_map"] === true ? "none" : "all";
    const target = resolve(String(args["target"]));
    return manager.tools().dumpMetadata(toolStorage(args), { output: lines(streams), pages, target });
  },
};

export const DEBUG_METADATA: Subcommand = {
  help: "Searches a file that dumpMetadata made for what its journals say of a block.",
  selects: "nothing",
  options: [
    numbers("--pbn", "-p", "A physical block whose slab journal entries are printed; may be given several times."),
    numbers("--searchLBN", "-s", "A logical block whose recovery journal entries are printed; likewise."),
  ],
  operands: [{ name: "dump", metavar: "DUMP", count: 1, help: "The file that dumpMetadata made." }],
  run: ({ manager, streams }, args) =>
    manager.tools().debugMetadata(resolve(String(args["dump"])), {
      output: lines(streams),
      pbns: list(args["pbn"]),
      lbns: list(args["searchLBN"]),
    }),
};

export const DUMP_CONFIG: Subcommand = {
  help: "Prints the configuration that is stored on a volume, as YAML.",
  selects: "tool",
  options: [],
  operands: [FILE],
  run: ({ manager, streams }, args) => manager.tools().dumpConfig(toolStorage(args), { output: lines(streams) }),
};

export const SET_UUID: Subcommand = {
  help: "Gives a stopped volume another UUID.",
  selects: "tool",
  options: [{ flags: ["--uuid"], metavar: "<uuid>", check: uuid, help: "The UUID; without it a random one." }],
  operands: [FILE],
  run: ({ manager }, args) => manager.tools().setUuid(toolStorage(args), String(args["uuid"] ?? "")),
};

export const REGENERATE_GEOMETRY: Subcommand = {
  help: "Writes a new first block for a volume whose own was wiped.",
  selects: "tool",
  options: [
    {
      flags: ["--offset"],
      metavar: "<bytes>",
      check: (text) => {
        if (number(text) % 4096 === 0) return number(text);
        throw new Error("must be a multiple of 4096");
      },
      help: "Where the super block is, when there are several candidates.",
    },
  ],
  operands: [FILE],
  run: ({ manager, streams }, args) =>
    manager.tools().regenerateGeometry(toolStorage(args), {
      output: lines(streams),
      offset: (args["offset"] ?? undefined) as number | undefined,
    }),
};

export const FORMAT: Subcommand = {
  help: "Makes a volume on storage, without configuring or starting it.",
  selects: "tool",
  options: [
    { flags: ["-f", "--force"], help: "Formats even storage that holds something known." },
    { flags: ["-l", "--logical-size"], metavar: "<size>", check: formatterSize, help: "The logical size." },
    { flags: ["-S", "--slab-bits"], metavar: "<bits>", check: slabBits, help: "Slabs have 2^bits blocks: 13 to 23." },
    { flags: ["-m", "--uds-memory-size"], metavar: "<gigabytes>", check: memory, help: "The memory of the index." },
    { flags: ["-s", "--uds-sparse"], help: "Makes a sparse index." },
    VERBOSE,
    {
      flags: ["-c", "--uds-checkpoint-frequency"],
      metavar: "<number>",
      check: number,
      ignored: "the index has had no checkpoints since VDO 8",
    },
  ],
  operands: [FILE],
  run: async ({ manager, streams }, args) => {
    const choice = toolStorage(args);
    return manager.tools().format({
      advises: true,
      device: await manager.storageOf(choice),
      output: lines(streams),
      logicalSize: (args["logical_size"] ?? 0) as number,
      slabBits: (args["slab_bits"] ?? 19) as number,
      indexMemory: (args["uds_memory_size"] ?? 0.25) as number,
      sparse: args["uds_sparse"] === true,
      force: args["force"] === true,
      verbose: args["verbose"] === true,
    });
  },
};

export const CALCULATE_SIZE: Subcommand = {
  help: "Tells what a volume of given sizes takes of storage and memory.",
  selects: "nothing",
  options: [
    { flags: ["--physical-size"], metavar: "<size>", check: formatterSize, required: true, help: "The storage." },
    { flags: ["--logical-size"], metavar: "<size>", check: formatterSize, required: true, help: "What users see." },
    { flags: ["--slab-bits"], metavar: "<bits>", check: slabBits, help: "Slabs have 2^bits blocks: 13 to 23." },
    { flags: ["--index-memory-size"], metavar: "<gigabytes>", check: memory, help: "The memory of the index." },
    { flags: ["--sparse-index"], help: "A sparse index." },
    { flags: ["--block-map-cache-size"], metavar: "<blocks>", check: number, help: "Blocks of the block map cache." },
    { flags: ["--human-readable"], help: "Sizes with units; without it they are in megabytes." },
  ],
  run: async ({ manager, streams }, args) => {
    const answer = manager.tools().calculateSize({
      physicalSize: args["physical_size"] as number,
      logicalSize: args["logical_size"] as number,
      slabBits: (args["slab_bits"] ?? 19) as number,
      indexMemory: (args["index_memory_size"] ?? 0.25) as number,
      sparse: args["sparse_index"] === true,
      blockMapCacheBlocks: (args["block_map_cache_size"] ?? 32_768) as number,
      humanReadable: args["human_readable"] === true,
    });
    streams.out(`${answer.join("\n")}\n`);
    return undefined;
  },
};
