/**
 * Holes in files of the host: Node has no call for it, util-linux has the program `fallocate`. A process for each range costs a
 * few milliseconds, so it is off by default.
 */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { PunchHoles } from "@vdo/ploop";
import { commandError } from "../errors.ts";

const run = promisify(execFile);

export const punchHoles: PunchHoles = async (path, ranges) => {
  for (const { offset, length } of ranges) {
    const words = ["--punch-hole", "--offset", String(offset), "--length", String(length), "--", path];
    await run("fallocate", words).catch((error: NodeJS.ErrnoException & { stderr?: string }) => {
      const why = error.code === "ENOENT" ? "there is no program fallocate (util-linux)" : (error.stderr ?? "").trim();
      throw commandError("VDO_SYSTEM", `cannot punch holes into ${path}: ${why}`, path, error);
    });
  }
};
