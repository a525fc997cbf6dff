/** Ansible's module community.general.vdo, as Debian ships it, manages a volume with our commands. */
import { spawn } from "node:child_process";
import { truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describeWith } from "@vdo/block-device/testing";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CommandLine } from "./support/command-line.ts";
import { type ProgramsOnPath, programsOnPath } from "./support/programs-on-path.ts";

/** The Python of Debian's packages, not another one that may be on the PATH. */
const PYTHON = "/usr/bin/python3";
const MODULE = "ansible_collections.community.general.plugins.modules.vdo";

interface Answer {
  changed?: boolean;
  failed?: boolean;
  msg?: string;
  err?: string;
}

let commands: CommandLine;
let programs: ProgramsOnPath;
let disk: string;

/** One task of a playbook; the module reads its arguments as JSON and prints its result as JSON. */
function task(parameters: Readonly<Record<string, unknown>>): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const child = spawn(PYTHON, ["-m", MODULE], { env: programs.environment, stdio: ["pipe", "pipe", "pipe"] });
    let out = "";
    let err = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      out += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      err += text;
    });
    child.once("error", reject);
    child.once("close", () => {
      try {
        resolve(JSON.parse(out) as Answer);
      } catch {
        reject(new Error(`no answer of the module: ${out}${err}`));
      }
    });
    child.stdin.end(JSON.stringify({ ANSIBLE_MODULE_ARGS: { name: "v0", ...parameters } }));
  });
}

/** Calls of the last task that change something. */
function changes(): string[] {
  return programs.calls.splice(0).filter((call) => !/^vdo (status|list)/.test(call));
}

const statusOf = async () => (await commands.vdo("status", "--name=v0")).out;

function suite(): void {
  beforeAll(async () => {
    commands = await CommandLine.make();
    programs = await programsOnPath(commands);
    disk = join(commands.folder, "disk.img");
    await writeFile(disk, "");
    await truncate(disk, 3 * 1024 ** 3);
  });
  afterAll(async () => {
    await commands.remove();
    programs.close();
  });

  test("a volume that is not there is absent already", async () => {
    expect(await task({ state: "absent" })).toMatchObject({ changed: false });
    expect(await task({ state: "present" })).toMatchObject({ failed: true });
    expect(changes()).toEqual([]);
  });

  test("present creates it with the options of the task", async () => {
    const sizes = { logicalsize: "10G", slabsize: "128M", blockmapcachesize: "256M", indexmem: "0.25" };
    const old = { readcache: "enabled", readcachesize: "20M" };
    const more = { emulate512: true, biothreads: "3", compression: "disabled", indexmode: "dense", force: true };
    expect(await task({ device: disk, ...sizes, ...old, ...more })).toMatchObject({ changed: true });
    const [create, ...others] = changes();
    expect(create).toContain(" --readCache=enabled --readCacheSize=20M ");
    expect(others).toEqual(["vdo disableCompression --name=v0"]);
    const status = await statusOf();
    for (const line of ["Bio submission threads: 3", "Block map cache size: 256M", "Compression: disabled"]) {
      expect(status).toContain(`    ${line}\n`);
    }
    expect((await commands.vdo("list")).out).toBe("v0\n");
  });

  test("a task that asks for nothing new changes nothing", async () => {
    expect(await task({ device: disk, running: true, activated: true })).toMatchObject({ changed: false });
    expect(changes()).toEqual([]);
  });

  test("settings are modified, switched, and the volume grown", async () => {
    const modified = { ackthreads: "2", readcache: "enabled", writepolicy: "sync" };
    const switches = { compression: "enabled", deduplication: "disabled" };
    expect(await task({ ...modified, ...switches, logicalsize: "20G" })).toMatchObject({ changed: true });
    expect(changes()).toEqual([
      "vdo modify --name=v0 --readCache=enabled --vdoAckThreads=2",
      "vdo disableDeduplication --name=v0",
      "vdo enableCompression --name=v0",
      "vdo changeWritePolicy --name=v0 --writePolicy=sync",
      "vdo growLogical --name=v0 --vdoLogicalSize=20G",
    ]);
    const status = await statusOf();
    for (const line of ["Configured write policy: sync", "Deduplication: disabled", "Logical size: 20G"]) {
      expect(status).toContain(`    ${line}\n`);
    }
    expect(status).toContain("    Acknowledgement threads: 1\n");
    const pending = await commands.vdo("status", "--pending");
    expect(pending.out).toContain("    Acknowledgement threads: 1    [2]\n");
  });

  test("growphysical finds the statistics under the name that it looks for", async () => {
    const { failed } = await task({ device: disk, growphysical: true });
    expect(failed).toBeUndefined();
  });

  test("stopped and deactivated, activated and started", async () => {
    expect(await task({ running: false, activated: false })).toMatchObject({ changed: true });
    expect(changes()).toEqual(["vdo deactivate --name=v0", "vdo stop --name=v0"]);
    expect((await commands.vdo("list")).out).toBe("\n");
    expect(await task({ running: true, activated: true })).toMatchObject({ changed: true });
    expect(changes()).toEqual(["vdo activate --name=v0", "vdo start --name=v0"]);
    expect((await commands.vdo("list")).out).toBe("v0\n");
    expect(await statusOf()).toContain("    Acknowledgement threads: 2\n");
  });

  test("absent removes it; a failure is told with our error", async () => {
    expect(await task({ state: "absent" })).toMatchObject({ changed: true });
    expect((await commands.vdo("list", "--all")).out).toBe("\n");
    const refused = await task({ device: join(commands.folder, "no-such-disk") });
    expect(refused).toMatchObject({ failed: true, msg: "Creating VDO v0 failed." });
    expect(refused.err).toContain("vdo: ERROR - Device ");
  });
}

describeWith(["ansible", PYTHON], "Ansible", suite, { describe, test });
