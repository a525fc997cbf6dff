/**
 * A database on a file system on a volume whose daemon is killed in the middle of its transactions, ten times: the file system
 * is sound after its journal was replayed, and every transaction that was committed is there.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { describeWith } from "@vdo/block-device/testing";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CommandLine, processGone, runProgram } from "./support/command-line.ts";

const PROGRAMS = ["root", "/dev/fuse", "losetup", "nbdfuse", "mkfs.ext4", "mount", "umount", "e2fsck", "sqlite3"];
const ROUNDS = 10;

let commands: CommandLine;

async function must(program: string, ...words: string[]): Promise<string> {
  const { status, out, err } = await runProgram(program, words);
  if (status !== 0) throw new Error(`${program} ${words.join(" ")}: status ${status}: ${err}${out}`);
  return out.trim();
}

const mountPoint = () => join(commands.folder, "mnt");
const device = () => join(commands.folder, "dev/v0");
const database = () => join(mountPoint(), "db");

/** Inserts rows from `first` on, one transaction each; tells how many of them sqlite said were committed. */
class Writer {
  readonly #child: ChildProcess;
  readonly ended: Promise<unknown>;
  last: number;

  constructor(first: number) {
    this.last = first - 1;
    this.#child = spawn("sqlite3", ["-batch", "-bail", database()], { stdio: ["pipe", "pipe", "ignore"] });
    this.ended = once(this.#child, "close");
    let text = "";
    this.#child.stdout?.setEncoding("utf8").on("data", (part: string) => {
      const lines = (text + part).split("\n");
      text = lines.pop() ?? "";
      const numbers = lines.map(Number).filter((number) => number > 0);
      this.last = Math.max(this.last, ...numbers);
    });
    this.#child.stdin?.on("error", () => undefined);
    // FULL would leave the removal of the rollback journal, which is the commit, in the cache of the file system.
    this.#child.stdin?.write("PRAGMA synchronous=EXTRA;\n");
    for (let n = first; n < first + 5000; n++) {
      this.#child.stdin?.write(`INSERT INTO t VALUES (${n}, randomblob(900));\nSELECT ${n};\n`);
    }
    this.#child.stdin?.end();
  }

  kill(): void {
    this.#child.kill("SIGKILL");
  }
}

async function killDaemon(): Promise<void> {
  const { pid } = await commands.state("v0");
  process.kill(pid, "SIGKILL");
  await processGone(pid);
}

function suite(): void {
  beforeAll(async () => {
    commands = await CommandLine.make();
    await must("mkdir", mountPoint());
  });
  afterAll(async () => {
    await runProgram("umount", [mountPoint()]);
    await commands.remove();
  });

  test("a database survives its volume's daemon", async () => {
    const image = join(commands.folder, "disk.img");
    const sizes = ["--vdoPhysicalSize=3G", "--vdoSlabSize=128M", "--vdoLogicalSize=512M", "--attach=auto"];
    const created = await commands.vdo("create", "--name=v0", `--device=${image}`, ...sizes);
    expect(created, created.err).toMatchObject({ status: 0 });
    await must("mkfs.ext4", "-q", "-E", "nodiscard", device());
    await must("mount", device(), mountPoint());
    await must("sqlite3", database(), "CREATE TABLE t (n INTEGER PRIMARY KEY, data BLOB);");
    let next = 1;
    for (let round = 0; round < ROUNDS; round++) {
      const writer = new Writer(next);
      for (let step = 0; step < 200 && writer.last < next + 20 + round * 7; step++) await pause(50);
      await killDaemon();
      writer.kill();
      await writer.ended;
      const committed = writer.last;
      expect(committed, `round ${round}: transactions were committed`).toBeGreaterThan(next);
      await must("umount", mountPoint());
      expect(await commands.vdo("start", "--name=v0")).toMatchObject({ status: 0, err: "" });
      // The mount replays the file system's journal; then nothing may be wrong with it.
      await must("mount", device(), mountPoint());
      await must("umount", mountPoint());
      await must("e2fsck", "-fn", device());
      await must("mount", device(), mountPoint());
      expect(await must("sqlite3", database(), "PRAGMA integrity_check;")).toBe("ok");
      const [count, highest] = (await must("sqlite3", database(), "SELECT count(*), max(n) FROM t;"))
        .split("|")
        .map(Number) as [number, number];
      expect(count, "no transaction is missing in between").toBe(highest);
      expect(highest, `round ${round}: transaction ${committed} was committed`).toBeGreaterThanOrEqual(committed);
      next = highest + 1;
    }
    await must("umount", mountPoint());
    expect((await commands.vdo("stop", "--name=v0")).status).toBe(0);
    expect(await commands.vdo("audit", "--name=v0")).toMatchObject({ status: 0, out: "" });
  });
}

describeWith(PROGRAMS, "a database on a volume", suite, { describe, test });
