/** Subcommands for volumes that are not running. */
import type { StorageChoice, ToolOutput } from "@vdo/manager";
import type { Arguments } from "./arguments.ts";
import * as options from "./options.ts";
import type { Streams } from "./parser.ts";
import type { Subcommand } from "./subcommands.ts";

export function storage(args: Arguments): StorageChoice {
  return typeof args["device"] === "string" ? { device: args["device"] } : { name: String(args["name"]) };
}

export function lines({ out, err }: Streams): ToolOutput {
  return { out: (line) => out(`${line}\n`), err: (line) => err(`${line}\n`) };
}

export const AUDIT: Subcommand = {
  help: "Checks the metadata of a volume that is not running; writes nothing.",
  selects: "storage",
  options: [options.SUMMARY],
  run: ({ manager, streams }, args) =>
    manager.audit(storage(args), {
      verbose: args["verbose"] === true && args["summary"] !== true,
      output: lines(streams),
    }),
};

export const FORCE_REBUILD: Subcommand = {
  help: "Has the next start rebuild a volume that is in read-only mode, after telling what that loses.",
  selects: "storage",
  options: [options.DRY_RUN],
  run: ({ manager, streams }, args) =>
    manager.forceRebuild(storage(args), { dryRun: args["dryRun"] === true, output: lines(streams) }),
};

export const SET_READ_ONLY: Subcommand = {
  help: "Puts a volume that is not running into read-only mode.",
  selects: "storage",
  options: [],
  run: ({ manager, streams }, args) => manager.setReadOnly(storage(args), { output: lines(streams) }),
};
