/** The subcommands: what each selects, its options, and what it does with a manager. */
import type { CommandLog, CreateOptions, Environment, Manager, StatusPageChoice } from "@vdo/manager";
import { type Arguments, createOptions, selection } from "./arguments.ts";
import {
  ACTIVATE,
  CHANGE_WRITE_POLICY,
  CONVERT,
  DEACTIVATE,
  GROW_LOGICAL,
  GROW_PHYSICAL,
  MODIFY,
} from "./change-commands.ts";
import {
  CALCULATE_SIZE,
  DEBUG_METADATA,
  DUMP_BLOCK_MAP,
  DUMP_CONFIG,
  DUMP_METADATA,
  FORMAT,
  LIST_METADATA,
  REGENERATE_GEOMETRY,
  SET_UUID,
} from "./metadata-commands.ts";
import { METRICS } from "./metrics-command.ts";
import { AUDIT, FORCE_REBUILD, SET_READ_ONLY } from "./offline-tools.ts";
import * as options from "./options.ts";
import type { Streams } from "./parser.ts";
import { COPY, ESTIMATE, EXPORT } from "./rescue-commands.ts";

/** What a subcommand works with. */
export interface Session {
  manager: Manager;
  log: CommandLog;
  streams: Streams;
  version: string;
  environment: Environment;
  /** Serves a volume in this process; resolves with the exit status. */
  serveHere(name: string, args: Arguments): Promise<number>;
}

export interface Subcommand {
  help: string;
  /** Exactly one of --all and --name; at most one; --name; --all as an option; one of --device and --name; those or a word; nothing. */
  selects: "one" | "optional" | "name" | "all" | "storage" | "tool" | "nothing";
  options: readonly options.OptionSpec[];
  operands?: readonly options.OperandSpec[];
  /** Some option must be given; these are named when none is. */
  atLeastOne?: readonly options.OptionSpec[];
  /** Resolves with the exit status; nothing means 0. */
  run(session: Session, args: Arguments): Promise<number | undefined>;
}

async function runStart(session: Session, args: Arguments): Promise<number | undefined> {
  if (args["foreground"] === true) return session.serveHere(String(args["name"]), args);
  await session.manager.start(selection(args), {
    readOnly: args["readOnly"] === true,
    forceRebuild: args["forceRebuild"] === true,
    attach: (args["attach"] ?? undefined) as CreateOptions["settings"]["attach"],
    socketGroup: (args["socketGroup"] ?? undefined) as string | undefined,
    statusPage: (args["statusPage"] ?? undefined) as StatusPageChoice | undefined,
    timeoutSeconds: (args["startTimeout"] ?? 0) as number,
  });
  return undefined;
}

const nothing = async (work: Promise<void>): Promise<undefined> => {
  await work;
};

/** In the order in which help and errors list them. */
export const SUBCOMMANDS: { readonly [name: string]: Subcommand } = {
  activate: ACTIVATE,
  audit: AUDIT,
  calculateSize: CALCULATE_SIZE,
  changeWritePolicy: CHANGE_WRITE_POLICY,
  convert: CONVERT,
  copy: COPY,
  create: {
    help: "Creates a VDO volume on a block device or a file, and starts it.",
    selects: "name",
    options: options.CREATE,
    run: ({ manager }, args) => nothing(manager.create(createOptions(args))),
  },
  deactivate: DEACTIVATE,
  debugMetadata: DEBUG_METADATA,
  disableCompression: {
    help: "Disables compression on one or more volumes.",
    selects: "one",
    options: [],
    run: ({ manager }, args) => nothing(manager.setCompression(selection(args), false)),
  },
  disableDeduplication: {
    help: "Disables deduplication on one or more volumes.",
    selects: "one",
    options: [],
    run: ({ manager }, args) => nothing(manager.setDeduplication(selection(args), false)),
  },
  dumpBlockMap: DUMP_BLOCK_MAP,
  dumpConfig: DUMP_CONFIG,
  dumpMetadata: DUMP_METADATA,
  enableCompression: {
    help: "Enables compression on one or more volumes.",
    selects: "one",
    options: [],
    run: ({ manager }, args) => nothing(manager.setCompression(selection(args), true)),
  },
  enableDeduplication: {
    help: "Enables deduplication on one or more volumes.",
    selects: "one",
    options: [],
    run: ({ manager }, args) => nothing(manager.setDeduplication(selection(args), true)),
  },
  estimate: ESTIMATE,
  export: EXPORT,
  forceRebuild: FORCE_REBUILD,
  format: FORMAT,
  growLogical: GROW_LOGICAL,
  growPhysical: GROW_PHYSICAL,
  import: {
    help: "Takes over a volume that is formatted already, and starts it.",
    selects: "name",
    options: options.IMPORT,
    run: ({ manager }, args) => nothing(manager.import(createOptions(args))),
  },
  list: {
    help: "Lists the running volumes; with --all the configured ones too.",
    selects: "all",
    options: [],
    run: async ({ manager, streams }, args) => {
      streams.out(`${(await manager.list({ all: args["all"] === true })).join("\n")}\n`);
      return undefined;
    },
  },
  listMetadata: LIST_METADATA,
  metrics: METRICS,
  modify: MODIFY,
  printConfigFile: {
    help: "Prints the configuration.",
    selects: "nothing",
    options: [],
    run: async ({ manager, streams }) => {
      streams.out(`${await manager.printConfigFile()}\n`);
      return undefined;
    },
  },
  regenerateGeometry: REGENERATE_GEOMETRY,
  remove: {
    help: "Stops one or more volumes and removes them from the configuration.",
    selects: "one",
    options: [options.FORCE_REMOVE],
    run: ({ manager }, args) => nothing(manager.remove(selection(args), { force: args["force"] === true })),
  },
  setReadOnly: SET_READ_ONLY,
  setUUID: SET_UUID,
  start: {
    help: "Starts one or more volumes that are activated.",
    selects: "one",
    options: options.START,
    run: runStart,
  },
  status: {
    help: "Prints the status of the host and of one or all volumes as YAML.",
    selects: "optional",
    options: [options.PENDING],
    run: async ({ manager, streams }, args) => {
      streams.out(await manager.status(selection(args), { pending: args["pending"] === true }));
      return undefined;
    },
  },
  stop: {
    help: "Stops one or more volumes.",
    selects: "one",
    options: [options.FORCE_STOP],
    run: ({ manager }, args) => nothing(manager.stop(selection(args), { force: args["force"] === true })),
  },
  version: {
    help: "Prints the version.",
    selects: "nothing",
    options: [],
    run: async ({ streams, version }) => {
      streams.out(`VDO version: ${version}\n`);
      return undefined;
    },
  },
};
