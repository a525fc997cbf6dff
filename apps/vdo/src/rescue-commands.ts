/** Subcommands about whole disks: out of damage, in from elsewhere, and what a volume would save on them. */
import { estimateLines, type ImageFormat } from "@vdo/manager";
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
        skipHeader: (args["skipHeader"] ?? 0) as number,
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

export const ESTIMATE: Subcommand = {
  help: "Tells what a volume would save on files, folders and devices, which are only read.",
  selects: "nothing",
  options: options.ESTIMATE,
  operands: [{ name: "paths", metavar: "PATH", count: "+", help: "A file, a folder or a block device." }],
  run: async ({ manager, streams }, args) => {
    const progress = new ProgressLine(streams);
    try {
      const report = await manager.estimate({
        paths: args["paths"] as string[],
        indexMemory: (args["indexMem"] ?? 0.25) as number,
        indexSparse: args["sparseIndex"] === "enabled",
        compression: args["compression"] !== "disabled",
        deduplication: args["deduplication"] !== "disabled",
        onProgress: (done, total) => progress.show("read", done, total),
      });
      progress.end();
      const text = args["json"] === true ? JSON.stringify(report, null, 2) : estimateLines(report).join("\n");
      streams.out(`${text}\n`);
      return report.unreadableFiles === 0 ? 0 : 1;
    } finally {
      progress.end();
    }
  },
};
