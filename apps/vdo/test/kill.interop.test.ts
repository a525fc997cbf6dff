/** Daemons and commands killed in the middle of what they do: the next commands put it right, and nothing flushed is lost. */
import { existsSync, readFileSync } from "node:fs";
import { rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { firstDifference, Random } from "@vdo/base";
import { NbdClient } from "@vdo/nbd";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { CommandLine, type Outcome, processGone } from "./support/command-line.ts";

const SIZES = ["--vdoPhysicalSize=3G", "--vdoSlabSize=128M", "--vdoLogicalSize=64M", "--attach=none"];
const DATA = new Random(1).fill(new Uint8Array(64 * 4096));

const ENDED = /^vdo: ERROR - the daemon of (VDO )?v0 (ended while starting|has ended); see /m;

let commands: CommandLine;
let disk: string;
let device: string;
beforeAll(async () => {
  commands = await CommandLine.make();
  disk = join(commands.folder, "disk.img");
  device = `--device=${disk}`;
});
beforeEach(async () => {
  await commands.vdo("remove", "--all", "--force");
  await rm(disk, { force: true });
});
afterAll(() => commands.remove());

const at = (path: string): string => join(commands.folder, path);
const text = (path: string): string => {
  try {
    return readFileSync(at(path), "utf8");
  } catch {
    return "";
  }
};
const pid = (): number => Number(text("run/v0/pid"));

/** Waits for the moment, without a pause that could miss it. */
async function moment(has: () => boolean): Promise<void> {
  while (!has()) await new Promise((resolve) => setImmediate(resolve));
}

/** Kills the daemon at the first moment at which `has` holds while the command runs. */
async function killedDuring(work: Promise<Outcome>, has: () => boolean): Promise<Outcome> {
  await moment(has);
  const victim = pid();
  process.kill(victim, "SIGKILL");
  const outcome = await work;
  await processGone(victim);
  return outcome;
}

async function create(): Promise<void> {
  expect(await commands.vdo("create", "--name=v0", device, ...SIZES)).toMatchObject({ status: 0, err: "" });
}

const connect = async () => NbdClient.connect((await commands.state("v0")).attach.path);

async function write(): Promise<void> {
  const client = await connect();
  await client.write(1000, DATA);
  await client.flush();
  await client.close();
}

async function expectData(): Promise<void> {
  const client = await connect();
  const back = new Uint8Array(DATA.length);
  await client.read(1000, back);
  await client.close();
  expect(firstDifference(back, DATA)).toBe(-1);
}

/** Moments of a start, by what is there. */
const MOMENTS: readonly (readonly [what: string, has: () => boolean])[] = [
  ["as soon as it has a process", () => pid() > 0],
  ["when it is ready", () => pid() > 0 && existsSync(at("run/v0/state.json"))],
];

describe("a daemon that is killed", () => {
  test.each(MOMENTS)("while its volume is created, %s", async (_what, has) => {
    const { status, err } = await killedDuring(commands.vdo("create", "--name=v0", device, ...SIZES), has);
    const names = (await commands.vdo("list", "--all")).out;
    // It is there as a whole, or not at all.
    if (status === 0) expect(names).toBe("v0\n");
    else expect(err).toMatch(ENDED);
    if (names === "\n") {
      await expect(stat(disk)).rejects.toThrow("ENOENT");
      await create();
    } else expect((await commands.vdo("start", "--name=v0")).status).toBe(0);
    await write();
    await expectData();
  });

  test.each(MOMENTS)("while it starts, %s", async (_what, has) => {
    await create();
    await write();
    await commands.vdo("stop", "--name=v0");
    const { status, err } = await killedDuring(commands.vdo("start", "--name=v0"), has);
    if (status !== 0) expect(err).toMatch(ENDED);
    expect((await commands.vdo("start", "--name=v0")).status).toBe(0);
    await expectData();
    expect((await commands.vdo("stop", "--name=v0", "--force")).status).toBe(0);
    expect((await commands.vdo("audit", disk)).status).toBe(0);
  });

  test.each(["growPhysical --vdoPhysicalSize=3500M", "growLogical --vdoLogicalSize=1G"])(
    "while it runs %s",
    async (call) => {
      await create();
      await write();
      const [command = "", option = ""] = call.split(" ");
      const began = () => text("etc/vdoconf.yml").includes("_operationState: beginGrow");
      const { status } = await killedDuring(commands.vdo(command, "--name=v0", option), began);
      expect([0, 1, 5]).toContain(status);
      expect((await commands.vdo("start", "--name=v0")).status).toBe(0);
      await expectData();
      // What the storage says is what is configured, grown or not; and it can grow, again or still.
      const shown = (await commands.vdo("status", "--name=v0")).out;
      const configured = (await commands.vdo("printConfigFile")).out;
      for (const key of ["Physical size", "Logical size"]) {
        const size = new RegExp(`    ${key}: (\\S+)\n`).exec(shown)?.[1];
        expect(configured.toLowerCase()).toContain(`${key.replace(" s", "S")}: ${size}\n`.toLowerCase());
      }
      const again = await commands.vdo(command, "--name=v0", option.replace("3500M", "4G").replace("1G", "2G"));
      expect(again).toMatchObject({ status: 0, err: "" });
      expect((await commands.vdo("stop", "--name=v0", "--force")).status).toBe(0);
      expect((await commands.vdo("audit", disk)).status).toBe(0);
    },
  );
});

describe("a command that is killed", () => {
  async function killCommand(words: string[], has: () => boolean): Promise<void> {
    const child = commands.spawnVdo(words);
    const ended = new Promise((resolve) => child.once("exit", resolve));
    await moment(has);
    child.kill("SIGKILL");
    await ended;
  }

  test("in the middle of a create leaves what remove --force takes away", async () => {
    await killCommand(["create", "--name=v0", device, ...SIZES], () => text("etc/vdoconf.yml").includes("beginCreate"));
    const started = await commands.vdo("start", "--name=v0");
    const refused = "VDO volume v0 previous operation (create) is incomplete; recover by performing 'remove --force'";
    expect(started).toMatchObject({ status: 5 });
    expect(started.err).toContain(refused);
    expect((await commands.vdo("status")).out).toContain(`  v0: ${refused}\n`);
    const plain = await commands.vdo("remove", "--name=v0");
    expect(plain.status).toBe(5);
    expect(plain.out).toContain("Add '--force' to 'remove' to perform the following cleanup.\n");
    expect((await commands.vdo("remove", "--name=v0", "--force")).status).toBe(0);
    expect((await commands.vdo("list", "--all")).out).toBe("\n");
    await create();
  });

  test("in the middle of a growth leaves what the next command finishes", async () => {
    await create();
    await write();
    await killCommand(["growPhysical", "--name=v0", "--vdoPhysicalSize=3500M"], () =>
      text("etc/vdoconf.yml").includes("beginGrowPhysical"),
    );
    expect((await commands.vdo("stop", "--name=v0", "--force")).status).toBe(0);
    expect((await commands.vdo("start", "--name=v0")).status).toBe(0);
    await expectData();
    expect(text("etc/vdoconf.yml")).toContain("_operationState: finished\n");
    await commands.vdo("stop", "--name=v0", "--force");
    expect((await commands.vdo("audit", disk)).status).toBe(0);
  });

  test("two starts at once: one serves, the other finds it started", async () => {
    await create();
    await commands.vdo("stop", "--name=v0");
    const both = await Promise.all([commands.vdo("start", "--name=v0"), commands.vdo("start", "--name=v0")]);
    expect(both.map(({ status }) => status)).toEqual([0, 0]);
    const warned = both.filter(({ err }) => err === "vdo: WARNING - VDO service v0 already started; no changes made\n");
    expect(warned).toHaveLength(1);
  });

  test("sockets and locks that a dead machine left are in nobody's way", async () => {
    await create();
    await write();
    process.kill(pid(), "SIGKILL");
    await processGone(pid());
    for (const left of ["run/v0/ctl.sock", "run/v0/nbd.sock", "run/v0/state.json"])
      expect(existsSync(at(left))).toBe(true);
    expect((await commands.vdo("list")).out).toBe("\n");
    expect((await commands.vdo("status", "--name=v0")).out).toContain("    Daemon process: not available\n");
    expect((await commands.vdo("start", "--name=v0")).status).toBe(0);
    await expectData();
  });
});
