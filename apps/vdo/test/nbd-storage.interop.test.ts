/**
 * Volumes whose storage is an NBD export of nbdkit: servers that are killed under load and come back, that fail, that are slow,
 * and that go away between two commands. What is flushed has to be in the image, and the audit has to be clean.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Random } from "@vdo/base";
import { describeWith } from "@vdo/block-device/testing";
import { NbdClient } from "@vdo/nbd";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { CommandLine, processGone } from "./support/command-line.ts";

const BLOCK = 4096;
const BLOCKS = 32;
/** Pieces that are different: 150 MiB, less than the smallest volume here holds. After the last one they are written again. */
const PIECES_MAX = 1200;
const CREATE = ["--vdoSlabSize=128M", "--vdoLogicalSize=1G", "--attach=none"];

let commands: CommandLine;
const path = (name: string): string => join(commands.folder, name);

/** One nbdkit over the file `disk`, on the socket `s`. */
class Kit {
  #process: ChildProcess | undefined;
  readonly #words: readonly string[];

  constructor(...words: string[]) {
    this.#words = words;
  }

  async start(): Promise<this> {
    await rm(path("s"), { force: true });
    const [filters, options] = [
      this.#words.filter((word) => word.startsWith("-")),
      this.#words.filter((word) => !word.startsWith("-")),
    ];
    this.#process = spawn("nbdkit", ["-f", "-U", path("s"), ...filters, "file", path("disk"), ...options]);
    while (!existsSync(path("s"))) {
      if (this.#process.exitCode !== null) throw new Error(`nbdkit ended with ${this.#process.exitCode}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    return this;
  }

  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    const server = this.#process;
    this.#process = undefined;
    if (server === undefined || server.exitCode !== null) return;
    server.kill(signal);
    await once(server, "exit");
  }

  /** Resolves when the server has ended by itself. */
  async ended(): Promise<void> {
    if (this.#process !== undefined && this.#process.exitCode === null) await once(this.#process, "exit");
    this.#process = undefined;
  }
}

let kit: Kit;
const serve = async (...words: string[]): Promise<Kit> => {
  kit = await new Kit(...words).start();
  return kit;
};
const uri = (): string => `nbd+unix:///?socket=${path("s")}`;
const piece = (seed: number): Uint8Array => new Random(seed + 1).fill(new Uint8Array(BLOCKS * BLOCK));
const must = async (...words: string[]): Promise<string> => {
  const { status, out, err } = await commands.vdo(...words);
  expect(status, `vdo ${words.join(" ")}: ${err}${out}`).toBe(0);
  return out;
};
const connect = async (): Promise<NbdClient> => NbdClient.connect((await commands.state("v0")).attach.path);

/** The pieces 0 to `count - 1` are what the volume holds. */
async function expectPieces(count: number): Promise<void> {
  const client = await connect();
  const read = new Uint8Array(BLOCKS * BLOCK);
  for (let i = 0; i < count; i++) {
    await client.read(i * BLOCKS, read);
    expect(Buffer.compare(read, piece(i)), `piece ${i}`).toBe(0);
  }
  await client.close();
}

/** Writes pieces until told to stop, flushing now and then; resolves with the number of pieces that are durable. */
async function load(isOver: () => boolean): Promise<number> {
  const client = await connect();
  let written = 0;
  for (; !isOver(); written++) {
    const number = written % PIECES_MAX;
    await client.write(number * BLOCKS, piece(number));
    if (written % 16 === 15) await client.flush();
  }
  await client.flush();
  await client.close();
  return Math.min(written, PIECES_MAX);
}

async function killDaemon(): Promise<void> {
  const { pid } = await commands.state("v0");
  process.kill(pid, "SIGKILL");
  await processGone(pid);
}

function suite(): void {
  beforeAll(async () => {
    commands = await CommandLine.make();
    await writeFile(path("disk"), "");
    await truncate(path("disk"), 3 * 1024 ** 3);
  });
  afterEach(async () => {
    await commands.vdo("stop", "--all", "--force");
    await kit.stop();
  });
  afterAll(() => commands.remove());

  test("a volume is made on an export, and its storage is nobody else's by any of its names", async () => {
    await serve();
    await must("create", "--name=v0", `--device=${uri()}`, ...CREATE);
    expect(await must("printConfigFile")).toContain(`      device: ${uri()}\n`);
    expect(await must("status", "--name=v0")).toContain(`    Storage device: ${uri()}\n`);
    const otherName = `nbd+unix:///other?socket=${path("s")}`;
    const again = await commands.vdo("import", "--name=v1", `--device=${otherName}`, "--attach=none");
    expect(again.status).toBe(5);
    expect(again.err).toMatch(/UUID [-0-9a-f]{36} already exists in VDO volume|in use already as VDO v0/);
    const tool = await commands.vdo("setReadOnly", `--device=${otherName}`);
    expect(tool.status).toBe(5);
    expect(tool.err).toContain("is in use already as VDO v0");
    const file = await commands.vdo("setReadOnly", `--device=${path("disk")}`);
    expect(file.status).toBe(5);
    expect(file.err).toContain("is in use already as VDO v0");
    await must("stop", "--name=v0");
    await must("audit", `--device=${uri()}`);
    await must("audit", `--device=${path("disk")}`);
    const formatted = await commands.vdo("create", "--name=v1", `--device=${otherName}`, ...CREATE);
    expect(formatted.status).toBe(5);
    expect(formatted.err).toContain("Cannot format device already containing a known signature!");
  });

  test("a server that is killed and started again under load costs time and nothing else", async () => {
    await serve("--filter=delay", "delay-write=1ms");
    await must("start", "--name=v0");
    let kills = 0;
    const loading = load(() => kills >= 4);
    for (; kills < 4; kills++) {
      await new Promise((resolve) => setTimeout(resolve, 700));
      await kit.stop("SIGKILL");
      await kit.start();
    }
    const durable = await loading;
    await expectPieces(durable);
    // The daemon dies too: what was flushed is on the image, however often the server went away.
    await killDaemon();
    await must("start", "--name=v0");
    await expectPieces(durable);
    await must("stop", "--name=v0");
    await must("audit", "--name=v0");
    const log = await readFile(join(commands.folder, "log/v0.log"), "utf8");
    expect(log).toContain("Requests wait for it to come back");
    expect(log).toContain("connected again");
  });

  test("server and daemon killed together: the next start recovers what was flushed", async () => {
    await serve("--filter=delay", "delay-write=1ms");
    await must("start", "--name=v0");
    let killed = false;
    const client = await connect();
    let durable = 0;
    let failure: unknown;
    const loading = (async () => {
      for (let i = 0; !killed && i < PIECES_MAX; i++) {
        await client.write(i * BLOCKS, piece(i));
        if (i % 8 !== 7) continue;
        await client.flush();
        durable = i + 1;
      }
    })().catch((error: unknown) => {
      failure = error;
    });
    while (durable < 24) {
      expect(failure, "what ends the load too early").toBe(undefined);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    await kit.stop("SIGKILL");
    await killDaemon();
    killed = true;
    await loading;
    await client.close().catch(() => undefined);
    await kit.start();
    await must("start", "--name=v0");
    await expectPieces(durable);
    await must("stop", "--name=v0");
    await must("audit", "--name=v0");
  });

  test("a server that fails makes the volume read-only, and a rebuild brings it back", async () => {
    await serve("--filter=error", `error-file=${path("broken")}`, "error-rate=100%", "error=EIO");
    await must("start", "--name=v0");
    const durable = 8;
    const client = await connect();
    for (let i = 0; i < durable; i++) await client.write(i * BLOCKS, piece(i));
    await client.flush();
    await writeFile(path("broken"), "");
    let failure: unknown;
    for (let i = durable; i < 200 && failure === undefined; i++) {
      failure = await client.write(i * BLOCKS, piece(i), { fua: true }).then(
        () => undefined,
        (error: unknown) => error,
      );
    }
    expect(failure).toMatchObject({ code: expect.stringMatching(/^VDO_(IO|READ_ONLY)$/) });
    await client.close().catch(() => undefined);
    await rm(path("broken"));
    await commands.vdo("stop", "--name=v0", "--force");
    const audit = await commands.vdo("audit", "--name=v0");
    const started = await commands.vdo("start", "--name=v0");
    if (started.status !== 0 || (await commands.vdo("status", "--name=v0")).out.includes("operating mode: read-only")) {
      await commands.vdo("stop", "--name=v0", "--force");
      await must("forceRebuild", "--name=v0");
      await must("start", "--name=v0");
    }
    await expectPieces(durable);
    await must("stop", "--name=v0");
    await must("audit", "--name=v0");
    expect(audit.status).toBeLessThanOrEqual(1);
  });

  test("a server that ends with its last client is waited for between the commands", async () => {
    await serve("--filter=exitlast", "--filter=retry", "retries=2", "retry-delay=1");
    await must("start", "--name=v0");
    await must("stop", "--name=v0");
    await kit.ended();
    const away = await commands.vdo("start", "--name=v0");
    expect(away.status).toBe(7);
    expect(away.err).toMatch(/Cannot use nbd\+unix:.*: cannot connect to the NBD server/);
    await serve();
    await must("start", "--name=v0");
    await must("stop", "--name=v0");
  });

  test("a volume on an export grows with it, while it is written to", async () => {
    await serve();
    await must("start", "--name=v0");
    let over = false;
    const loading = load(() => over);
    expect((await commands.vdo("growPhysical", "--name=v0")).err).toContain("Can't grow a VDO volume by less than");
    expect((await commands.vdo("growPhysical", "--name=v0", "--vdoPhysicalSize=9G")).err).toContain(
      "is for regular files",
    );
    await truncate(path("disk"), 4 * 1024 ** 3);
    await must("growPhysical", "--name=v0");
    expect(await must("status", "--name=v0")).toContain("    Physical size: 4G\n");
    over = true;
    const durable = await loading;
    await must("stop", "--name=v0");
    await must("audit", "--name=v0");
    await must("start", "--name=v0");
    await expectPieces(durable);
  });

  test("tools, export and copy take an export; another image in its place is refused", async () => {
    await serve();
    expect(await must("dumpConfig", `--device=${uri()}`)).toContain("VDOConfig:\n");
    await must("export", `--device=${uri()}`, `--output=${path("raw")}`);
    expect(Buffer.compare((await readFile(path("raw"))).subarray(0, BLOCKS * BLOCK), piece(0))).toBe(0);
    await rm(path("raw"));
    await must("start", "--name=v0");
    await kit.stop("SIGKILL");
    const { pid } = await commands.state("v0");
    await rm(path("disk"));
    await writeFile(path("disk"), "");
    await truncate(path("disk"), 4 * 1024 ** 3);
    await kit.start();
    const client = await connect();
    await expect(client.write(0, piece(1), { fua: true })).rejects.toMatchObject({ code: "VDO_IO" });
    await client.close().catch(() => undefined);
    expect(await readFile(join(commands.folder, "log/v0.log"), "utf8")).toContain(
      "another export answers: block 0 differs",
    );
    process.kill(pid, "SIGKILL");
    await processGone(pid);
    // Nothing was written to it: a file that is all hole.
    expect((await stat(path("disk"))).blocks).toBe(0);
  });

  test("what cannot be served is refused with the reason", async () => {
    await serve("-r");
    expect(await commands.vdo("create", "--name=v2", "--device=nbds://host/x")).toMatchObject({
      status: 2,
      err: expect.stringContaining("argument --device: 'nbds://host/x': TLS is not spoken here"),
    });
    const readOnly = await commands.vdo("create", "--name=v2", `--device=nbd+unix:///z?socket=${path("s")}`);
    expect(readOnly.status).toBe(7);
    expect(readOnly.err).toContain("is exported read-only");
  });
}

describeWith(["nbdkit"], "volumes on NBD exports", suite, { describe, test });
