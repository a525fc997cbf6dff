/** Subcommands that carry whole volumes: out of damage, and in from elsewhere. */
import type { ImageFormat } from "@vdo/manager";
import { createOptions } from "./arguments.ts";
import { lines, storage } from "./offline-tools.ts";
import * as options from "./options.ts";
import { ProgressLine } from "./progress.ts";
import type { Subcommand } from "./subcommands.ts";

export const EXPORT: Subcommand = {
  help: "Writes what a stopped volume holds to an image, also of a damaged one; writes nothing to the volume.",
  selects: "storage",
  options: options.EXPORT,
  run: async ({ manager, streams }, args) => {
    const progress = new ProgressLine(streams);
    try {
      return await manager.exportVolume(storage(args), {
        output: String(args["output"]),
        format: (args["format"] ?? "raw") as ImageFormat,
        force: args["force"] === true,
        lines: lines(streams),
        onProgress: (done, total) => progress.show("exported", done, total),
      });
    } finally {
      progress.end();
    }
  },
};

export const COPY: Subcommand = {
  help: "Creates a volume with the content of a file, a block device or an NBD export, and compares the two.",
  selects: "name",
  options: options.COPY,
  run: async ({ manager, streams }, args) => {
    const progress = new ProgressLine(streams);
    try {
      await manager.copy({
        ...createOptions(args),
        from: String(args["from"]),
        verify: args["verify"] !== "disabled",
        onProgress: (what, done, total) => progress.show(what, done, total),
      });
    } finally {
      progress.end();
    }
    return undefined;
  },
};
