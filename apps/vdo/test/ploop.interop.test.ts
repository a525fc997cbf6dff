/** `vdo ploop` with real processes: the daemon serves QEMU, is killed, and its disk is checked and goes on. */
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describeWith } from "@vdo/block-device/testing";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

const run = promisify(execFile);
const MAIN = fileURLToPath(new URL("../src/main.ts", import.meta.url));

let folder = "";
let descriptor = "";
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "vdo-ploop-"));
  descriptor = join(folder, "DiskDescriptor.xml");
});
afterEach(async () => {
  await ploop("stop", descriptor);
  await rm(folder, { recursive: true, force: true });
});

interface Outcome {
  status: number;
  out: string;
}

async function ploop(...words: string[]): Promise<Outcome> {
  const env = { ...process.env, VDO_RUN_DIR: join(folder, "run"), VDO_LOG_DIR: join(folder, "log") };
  const program = ["--conditions=@vdo/source", "--import", "tsx", MAIN, "ploop", ...words];
  return run(process.execPath, program, { env }).then(
    ({ stdout }) => ({ status: 0, out: stdout }),
    (error: { code: number; stdout: string }) => ({ status: error.code, out: error.stdout }),
  );
}

async function qemuIo(uri: string, ...commands: string[]): Promise<string> {
  const words = commands.flatMap((command) => ["-c", command]);
  return (await run("qemu-io", ["-f", "raw", ...words, uri])).stdout;
}

const uriIn = ({ out }: Outcome): string => /nbd\+unix:\S+/.exec(out)?.[0] ?? "";

describeWith(
  ["qemu-io", "qemu-img"],
  "vdo ploop with a daemon of its own",
  () => {
    test("serves QEMU, survives the daemon's end without notice, and QEMU reads the stack", async () => {
      expect((await ploop("init", "-s", "64M", "-t", "none", join(folder, "a.hds"))).status).toBe(0);
      const uri = uriIn(await ploop("start", descriptor));
      await qemuIo(uri, "write -P 7 1M 3M", "flush");
      expect((await ploop("snapshot", descriptor)).status).toBe(0);
      await qemuIo(uri, "write -P 8 2M 100k", "flush");
      const pid = Number(/pid: (\d+)/.exec((await ploop("status", descriptor)).out)?.[1]);
      expect(pid).toBeGreaterThan(1);
      process.kill(pid, "SIGKILL");

      expect((await ploop("status", descriptor)).status).not.toBe(0);
      expect((await ploop("check", descriptor)).status).toBe(37);
      expect((await ploop("snapshot", descriptor)).status).toBe(37);
      expect((await ploop("check", "-d", descriptor)).status).toBe(0);
      expect((await ploop("check", "-f", descriptor)).status).toBe(0);

      const again = uriIn(await ploop("start", descriptor));
      const read = await qemuIo(
        again,
        "read -P 7 1M 1M",
        "read -P 8 2M 100k",
        "read -P 7 2148k 1948k",
        "read -P 0 4M 60M",
      );
      expect(read).not.toContain("Pattern verification failed");
      const guid = /\* (\{\S+\})/.exec((await ploop("snapshot-list", "-s", descriptor)).out)?.[1] ?? "";
      expect((await ploop("snapshot-delete", "-u", guid, descriptor)).status).toBe(0);
      expect((await ploop("stop", descriptor)).status).toBe(0);
      expect((await ploop("snapshot-list", "-H", descriptor)).out.trim().split("\n")).toHaveLength(1);
      const file = /(\S+)\s*$/.exec((await ploop("snapshot-list", "-H", descriptor)).out)?.[1] ?? "";
      const check = await run("qemu-img", ["check", "-f", "parallels", file]);
      expect(check.stdout).toContain("No errors were found");
    });
  },
  { describe, test },
);
