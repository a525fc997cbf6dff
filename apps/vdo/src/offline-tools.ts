/** Subcommands for volumes that are not running. */
import type { StorageChoice, ToolOutput } from "@vdo/manager";
import type { Arguments } from "./arguments.ts";
import * as options from "./options.ts";
import type { Streams } from "./parser.ts";
import type { Subcommand } from "./subcommands.ts";

export function storage(args: Arguments): StorageChoice {
  return typeof args["device"] === "string" ? { device: args["device"] } : { name: String(args["name"]) };
}

export const FILE: options.OperandSpec = {
  name: "file",
  metavar: "FILE",
  count: "?",
  help: "The storage, in place of --device and --name.",
};

/** The storage of a tool that takes it as a plain word too. */
export function toolStorage(args: Arguments): StorageChoice {
  return typeof args["file"] === "string" ? { device: args["file"] } : storage(args);
}

export function lines({ out, err }: Streams): ToolOutput {
  return { out: (line) => out(`${line}\n`), err: (line) => err(`${line}\n`) };
}

export const AUDIT: Subcommand = {
  help: "Checks the metadata of a volume that is not running; writes nothing.",
  selects: "tool",
  options: [options.SUMMARY, options.VERBOSE],
  operands: [FILE],
  run: ({ manager, streams }, args) =>
    manager.audit(toolStorage(args), {
      verbose: args["verbose"] === true,
      output: lines(streams),
    }),
};

export const FORCE_REBUILD: Subcommand = {
  help: "Has the next start rebuild a volume that is in read-only mode, after telling what that loses.",
  selects: "tool",
  options: [options.DRY_RUN],
  operands: [FILE],
  run: ({ manager, streams }, args) =>
    manager.forceRebuild(toolStorage(args), { dryRun: args["dryRun"] === true, output: lines(streams) }),
};

export const SET_READ_ONLY: Subcommand = {
  help: "Puts a volume that is not running into read-only mode.",
  selects: "tool",
  options: [],
  operands: [FILE],
  run: ({ manager, streams }, args) => manager.setReadOnly(toolStorage(args), { output: lines(streams) }),
};
