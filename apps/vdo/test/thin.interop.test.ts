/** `vdo thin` with real processes: pools of the configuration file, served in the background, killed, and sent. */
import { existsSync } from "node:fs";
import { copyFile, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { NbdClient } from "@vdo/nbd";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CommandLine, type Outcome, processGone } from "./support/command-line.ts";

let commands: CommandLine;
let disk: string;
beforeAll(async () => {
  commands = await CommandLine.make();
  disk = join(commands.folder, "pool.img");
});
afterAll(async () => {
  await commands.vdo("thin", "stop", "--all");
  await commands.remove();
});

const thin = (...words: string[]): Promise<Outcome> => commands.vdo("thin", ...words);
const on = (...words: string[]): Promise<Outcome> => thin(words[0] as string, "--name=pool0", ...words.slice(1));
const uriOf = ({ out }: Outcome, id: number): string =>
  (/ready at (\S+)/.exec(out)?.[1] ?? "").replace("/ID?", `/${id}?`);

async function writeTo(uri: string, block: number, bytes: Uint8Array): Promise<void> {
  const client = await NbdClient.connect(uri);
  await client.write(block, bytes);
  await client.flush();
  await client.close();
}

async function readFrom(uri: string, count: number): Promise<Uint8Array> {
  const client = await NbdClient.connect(uri);
  const target = new Uint8Array(count * client.blockSize);
  await client.read(0, target);
  await client.close();
  return target;
}

const content = (byte: number, blocks: number): Uint8Array => new Uint8Array(blocks * 4096).fill(byte);
let uri = "";

test("a pool on one file is configured, and takes commands while it does not run", async () => {
  const made = await on("create-pool", "--device", disk, "--physical-size=64M", "--size=1G", "--low-water-mark=10");
  expect(made).toMatchObject({ status: 0, err: "", out: expect.stringMatching(/^0 60\/512 0\/976 - rw /) });
  expect(await on("create-pool", "--device", disk)).toMatchObject({ status: 1, err: expect.stringMatching(/exists/) });
  const second = await thin("create-pool", "--name=p1", "--device", disk);
  expect(second.err).toMatch(/already configured for thin pool pool0/);
  expect(await readFile(join(commands.folder, "etc/vdoconf.yml"), "utf8")).toMatch(/pools:\n {4}pool0:\n/);
  expect((await on("create", "0")).status).toBe(0);
  expect((await on("create", "--size=2G", "7")).status).toBe(0);
  expect((await on("snapshot", "8", "7")).status).toBe(0);
  const listed = await on("list");
  expect(listed.out.split("\n").map((line) => line.split(/ {2,}/).slice(0, 3))).toEqual([
    ["DEV", "SIZE", "MAPPED"],
    ["0", "1 GiB", "0 B"],
    ["7", "2 GiB", "0 B"],
    ["8", "2 GiB", "0 B"],
    [""],
  ]);
  expect((await on("delete", "8")).status).toBe(0);
  expect((await on("table")).out).toBe(`${disk} ${disk} 128 10 0 \n`);
  expect((await on("check")).status).toBe(0);
  expect(await on("stop")).toMatchObject({ status: 1, err: "vdo thin: thin pool pool0 is not running\n" });
  expect((await thin("status", "--name=other")).err).toBe("vdo thin: Thin pool other not found\n");
});

test("it is served in the background, once", async () => {
  const started = await on("start");
  expect(started, started.err).toMatchObject({ status: 0 });
  expect(started.out).toMatch(/^thin pool pool0 is ready at nbd\+unix:\/\/\/ID\?socket=\S+\n$/);
  uri = uriOf(started, 0);
  expect(await on("start")).toMatchObject({ status: 1, err: expect.stringContaining("is running already at nbd") });
  const other = await thin("status", "--device", disk);
  expect(other).toMatchObject({ status: 0, out: expect.stringMatching(/^0 \d+\/512 0\/976 - rw /) });
  const copy = join(commands.folder, "hard-link.img");
  await commands.shell(`ln ${disk} ${copy}`);
  expect((await thin("status", "--device", copy)).err).toMatch(/is in use by another running VDO/);
  expect((await thin("list")).out).toMatch(/^NAME {3}STATE {4}DEVICES .*\npool0 {2}running {2}/);
  expect((await commands.vdo("list")).out).toBe("\n");
  expect((await thin("check", disk)).err).toMatch(/is running: read its metadata snapshot/);
});

test("devices come and go while it runs, and its table changes", async () => {
  await writeTo(uri, 0, content(1, 64));
  expect((await on("snapshot", "1", "0")).status).toBe(0);
  await writeTo(uri, 16, content(2, 40));
  expect((await on("snapshot", "2", "0")).status).toBe(0);
  await writeTo(uri, 0, content(3, 64));
  const snapshot = uri.replace("/0?", "/1?");
  expect(Buffer.compare(await readFrom(snapshot, 64), content(1, 64))).toBe(0);
  expect((await on("modify", "--low-water-mark=77", "--discard=no_passdown")).status).toBe(0);
  expect((await on("table")).out).toBe(`${disk} ${disk} 128 77 1 no_discard_passdown \n`);
  expect((await on("modify", "--discard=ignore")).err).toMatch(/Discard support cannot be disabled/);
  expect((await on("grow", "--physical-size=128M")).out).toMatch(/^0 \d+\/\d+ 11\/2000 - rw /);
  expect((await on("reserve-metadata-snap")).status).toBe(0);
  expect((await on("status")).out).toMatch(/^0 \d+\/\d+ 11\/2000 \d+ rw no_discard_passdown /);
  expect((await on("ls", "-m", "--no-headers")).out.split("\n")).toHaveLength(5);
  expect((await on("delta", "-m", "--thin1=1", "--thin2=2")).out).toMatch(/<different begin="1" length="3"\/>/);
  expect((await on("send", "--thin=1", "-o", join(commands.folder, "none"))).err).toMatch(/held already/);
  expect((await on("release-metadata-snap")).status).toBe(0);
});

test("snapshots are sent from it through a pipe, with progress, into a file and another pool", async () => {
  const backup = join(commands.folder, "backup.img");
  const full = await commands.shell(
    `set -o pipefail; $vdo thin send --name=pool0 --thin 1 | $vdo thin receive --output ${backup}`,
  );
  expect(full.status, full.err).toBe(0);
  expect(full.err).toMatch(/sending: 100 % of 262144 bytes\n/);
  expect(full.err).toMatch(/sent device 1: 1 records, 262144 bytes of content/);
  expect(full.err).toMatch(/received 1 records, 262144 bytes of content, onto 1073741824 bytes: verified\n/);
  const digest = /digest (\w{64})/.exec(full.err)?.[1] as string;
  const stream = join(commands.folder, "stream");
  const changes = await on("send", "--thin=2", "--base=1", "--base-digest", digest, "-o", stream);
  expect(changes).toMatchObject({
    status: 0,
    err: expect.stringContaining("changes since device 1: 1 records, 196608"),
  });
  expect((await on("status")).out).toMatch(/ 11\/2000 - rw /);
  const other = join(commands.folder, "other.img");
  await copyFile(backup, other);
  expect(await thin("receive", "-q", "-i", stream, "-o", backup)).toMatchObject({ status: 0, err: "" });
  const expected = Buffer.concat([content(1, 16), content(2, 40), content(1, 8)]);
  expect((await readFile(backup)).subarray(0, 64 * 4096).equals(expected)).toBe(true);
  const twice = await thin("receive", "-i", stream, "-o", backup);
  expect(twice).toMatchObject({ status: 1, err: expect.stringContaining("holds what the stream makes of it already") });
  expect((await thin("receive", "-i", stream, "-o", join(commands.folder, "new"))).err).toMatch(
    /receive the base first/,
  );
  expect(existsSync(join(commands.folder, "new"))).toBe(false);

  const bytes = await readFile(stream);
  bytes[5000] = (bytes[5000] as number) ^ 1;
  await writeFile(join(commands.folder, "wrong"), bytes);
  const wrong = await thin("receive", "-i", join(commands.folder, "wrong"), "-o", other);
  expect(wrong).toMatchObject({
    status: 1,
    err: expect.stringMatching(/vdo thin: the stream is damaged at byte 160: /),
  });
  await truncate(stream, 100_000);
  expect((await thin("receive", "-i", stream, "-o", other)).err).toMatch(/ends at byte 100000/);

  const pool = join(commands.folder, "second.img");
  const made = await thin("create-pool", "--name=p1", "--device", pool, "--physical-size=64M", "--block-size=128K");
  expect(made.status).toBe(0);
  const into = "$vdo thin receive -q --name=p1";
  const piped = await commands.shell(
    `set -e -o pipefail; $vdo thin send -q --name=pool0 --thin 1 | ${into} --thin 1
     $vdo thin start --name=p1
     $vdo thin send -q --name=pool0 --thin 2 --base 1 | ${into} --thin 2 --base 1`,
  );
  // A slow machine may say that the pool is still starting.
  expect(piped, piped.err).toMatchObject({ status: 0 });
  expect(Buffer.compare(await readFrom(uriOf(piped, 2), 64), expected)).toBe(0);
  expect(Buffer.compare(await readFrom(uriOf(piped, 1), 64), content(1, 64))).toBe(0);
  const bad = await commands.shell(`$vdo thin send -q --name=pool0 --thin 2 --base 1 | ${into} --thin 3 --base 2`);
  expect(bad).toMatchObject({ status: 1, err: expect.stringContaining("holds what the stream makes of it already") });
  expect((await thin("list", "--name=p1")).out.split("\n")).toHaveLength(4);
  expect((await thin("remove-pool", "--name=p1")).status).toBe(0);
  expect((await thin("check", pool)).status).toBe(0);
}, 120_000);

test("a daemon that was killed is noticed and cleaned up after", async () => {
  const folder = join(commands.folder, "run/.s");
  const { out } = await commands.shell(`ls ${folder}/t*.json; cat ${folder}/t*.json`);
  const pid = Number(/"pid": (\d+)/.exec(out)?.[1]);
  process.kill(pid, "SIGKILL");
  await processGone(pid);
  expect((await thin("list")).out).toMatch(/\npool0 {2}killed /);
  expect((await on("status")).out).toMatch(/ rw /);
  const started = await on("start");
  expect(started).toMatchObject({
    status: 0,
    err: expect.stringContaining("ended without stopping; cleaned up after it"),
  });
  expect(Buffer.compare(await readFrom(uriOf(started, 2), 16), content(1, 16))).toBe(0);
  expect(await on("stop")).toMatchObject({ status: 0, out: "thin pool pool0 stopped\n", err: "" });
  expect((await on("check")).status).toBe(0);
  expect((await thin("list")).out).toMatch(/\npool0 {2}stopped /);
});

test("in the foreground it is stopped by a signal; by its devices it needs no name", async () => {
  const child = commands.spawnVdo(["thin", "start", "--device", disk, "--size=1G", "--foreground"]);
  let out = "";
  child.stdout?.setEncoding("utf8");
  for await (const piece of child.stdout ?? []) {
    out += piece as string;
    if (out.includes("ready at")) break;
  }
  expect(Buffer.compare(await readFrom(uriOf({ out, err: "", status: 0 }, 1), 16), content(1, 16))).toBe(0);
  const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
  child.kill("SIGTERM");
  expect(await ended).toBe(0);
  expect((await thin("remove-pool", "--name=pool0")).status).toBe(0);
  expect(existsSync(join(commands.folder, "etc/vdoconf.yml"))).toBe(false);
});
