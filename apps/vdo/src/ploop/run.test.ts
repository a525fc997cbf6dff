import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { TestMachine } from "@vdo/manager/testing";
import { NbdClient } from "@vdo/nbd";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { runVdo } from "../run.ts";
import { PLOOP_COMMANDS } from "./grammar.ts";
import { guidOf, sectorsOf } from "./values.ts";

interface Outcome {
  status: number;
  out: string;
  err: string;
}

let machine: TestMachine;
let descriptor: string;
beforeEach(async () => {
  machine = await TestMachine.make();
  await mkdir(join(machine.folder, "disk"));
  descriptor = join(machine.folder, "disk", "DiskDescriptor.xml");
});
afterEach(() => machine.remove());

async function ploop(...words: string[]): Promise<Outcome> {
  let [out, err] = ["", ""];
  const streams = {
    out: (text: string) => {
      out += text;
    },
    err: (text: string) => {
      err += text;
    },
  };
  const status = await runVdo({ words: ["ploop", ...words], streams, environment: machine.environment });
  return { status, out, err };
}

const init = (...words: string[]): Promise<Outcome> =>
  ploop("init", "-s", "16M", "-t", "none", ...words, join(machine.folder, "disk", "root.hds"));
const guidIn = ({ out }: Outcome): string => /\{[^}]*\}/.exec(out)?.[0] ?? "";

/** A plain file with a pattern, and what it is. */
async function plain(name: string, seed: number): Promise<[string, Buffer]> {
  const bytes = Buffer.alloc(16 << 20);
  bytes.fill(seed, 1 << 20, 3 << 20).fill(seed + 1, 9 << 20, (9 << 20) + 700);
  const path = join(machine.folder, name);
  await writeFile(path, bytes);
  return [path, bytes];
}

test.each(Object.keys(PLOOP_COMMANDS))(
  "%s --help tells what it does; without arguments it is refused",
  async (name) => {
    const help = await ploop(name, "--help");
    expect(help).toMatchObject({ status: 0, err: "" });
    expect(help.out).toContain(`usage: vdo ploop ${name}`);
    expect(await ploop(name)).toMatchObject({ status: 38, out: "" });
  },
);

test("no command and an unknown one print the summary, status 38", async () => {
  expect((await ploop()).status).toBe(38);
  expect((await ploop("mount")).err).toContain("Unknown command: mount");
});

describe("a disk at rest", () => {
  test("is made, described, checked, and not made twice", async () => {
    const made = await init("-v", "1");
    expect(made.out).toContain("root.hds bs=2048 size=32768 sectors v1");
    expect((await ploop("info", "-s", descriptor)).out).toBe("size:\t\t32768\nblocksize:\t2048\nfmt_version:\t1\n");
    expect(await ploop("check", "-f", descriptor)).toMatchObject({ status: 0, err: "" });
    expect((await init()).status).toBe(17);
    expect((await ploop("info", "-s", join(machine.folder, "nothing.xml"))).status).toBe(4);
  });

  test("goes through snapshots, switches and merges with its content", async () => {
    await init("-b", "64");
    const [first, before] = await plain("first.raw", 1);
    expect((await ploop("copy", "-s", first, "-d", descriptor)).status).toBe(0);
    const guid = guidIn(await ploop("snapshot", descriptor));
    const [second, after] = await plain("second.raw", 40);
    await ploop("copy", "-s", second, "-d", descriptor);
    const list = await ploop("snapshot-list", "-H", "-o", "current,uuid", descriptor);
    expect(list.out.split("\n")[0]).toBe(`  ${guid}`);
    expect(list.out.split("\n")[1]).toMatch(/^\* \{5fbaabe3/);
    await ploop("copy", "-s", descriptor, "-d", join(machine.folder, "out.raw"));
    expect((await readFile(join(machine.folder, "out.raw"))).equals(after)).toBe(true);
    expect((await ploop("snapshot-switch", "-D", "-u", guid, descriptor)).status).toBe(0);
    await ploop("copy", "-s", descriptor, "-d", join(machine.folder, "back.raw"));
    expect((await readFile(join(machine.folder, "back.raw"))).equals(before)).toBe(true);
    expect(
      (await ploop("snapshot-delete", "-u", guidOf("0".repeat(8) + "-0000-4000-8000-000000000000"), descriptor)).status,
    ).toBe(43);
    expect((await ploop("snapshot-delete", "-u", guid.slice(1, -1), descriptor)).out).toContain("temporary");
    expect((await ploop("resize", "-s", "32M", descriptor)).status).toBe(0);
    expect((await ploop("resize", "-s", "8M", descriptor)).status).toBe(38);
  });

  test("is merged to one image, and becomes raw", async () => {
    await init();
    const [first, before] = await plain("first.raw", 1);
    await ploop("copy", "-s", first, "-d", descriptor);
    await ploop("snapshot", descriptor);
    await ploop("snapshot", descriptor);
    const fresh = join(machine.folder, "disk", "fresh.hds");
    expect((await ploop("snapshot-merge", "-n", fresh, "-A", descriptor)).status).toBe(38);
    expect((await ploop("snapshot-merge", "-n", fresh, descriptor)).status).toBe(0);
    expect((await ploop("snapshot-list", "-H", "-o", "fname", descriptor)).out).toContain(`${fresh}\n`);
    expect((await ploop("snapshot-merge", "-A", descriptor)).status).toBe(0);
    expect(await ploop("snapshot-merge", descriptor)).toMatchObject({ status: 43 });
    expect((await ploop("convert", "-v", "1", descriptor)).status).toBe(0);
    expect((await ploop("info", descriptor)).out).toContain("fmt_version:\t1");
    expect((await ploop("convert", "-v", "2", "-f", "raw", descriptor)).status).toBe(38);
    expect((await ploop("convert", "-f", "preallocated", descriptor)).status).toBe(0);
    expect((await ploop("convert", "-f", "raw", descriptor)).status).toBe(0);
    expect((await readFile(join(machine.folder, "disk", "root.hds"))).equals(before)).toBe(true);
    expect((await readdir(join(machine.folder, "disk"))).sort()).toEqual(["DiskDescriptor.xml", "root.hds"]);
  });

  test("remembers what changed in a bitmap, over snapshots and merges", async () => {
    const uuid = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
    await init("-b", "64");
    expect((await ploop("bitmap", descriptor, "start", "-u", `{${uuid}}`, "-g", "64")).status).toBe(0);
    const [path] = await plain("first.raw", 1);
    await ploop("copy", "-s", path, "-d", descriptor);
    const shown = await ploop("bitmap", descriptor, "show");
    expect(shown).toMatchObject({ status: 0, err: "" });
    expect(shown.out).toMatch(new RegExp(`^${uuid}: \\d+ sectors changed, one bit for 64\n +0 +32768\n$`));
    const cleared = await ploop("bitmap", descriptor, "clear", "-u", uuid);
    expect(cleared.out).toBe(shown.out);
    expect((await ploop("bitmap", descriptor, "show")).out).toBe(`${uuid}: 0 sectors changed, one bit for 64\n`);
    expect((await ploop("snapshot", "-b", "11111111-2222-3333-4444-555555555555", descriptor)).status).toBe(0);
    await ploop("snapshot-merge", descriptor);
    expect((await ploop("bitmap", descriptor, "show")).out.match(/sectors changed/g)).toHaveLength(2);
    expect((await ploop("bitmap", descriptor, "drop", "-u", uuid)).status).toBe(0);
    expect(await ploop("bitmap", descriptor, "drop", "-u", uuid)).toMatchObject({ status: 38, out: "" });
    expect((await ploop("bitmap", descriptor, "clear")).status).toBe(38);
    expect((await ploop("check", "-f", "-r", descriptor)).status).toBe(0);
  });

  test("that is plain gets smaller on request, others do not", async () => {
    await init("-f", "raw");
    expect((await ploop("resize", "-s", "8M", descriptor)).status).toBe(38);
    expect((await ploop("resize", "--shrink", "-s", "8M", descriptor)).status).toBe(0);
    expect((await ploop("info", descriptor)).out).toContain("size:\t\t16384");
    expect((await readFile(join(machine.folder, "disk", "root.hds"))).length).toBe(8 << 20);
    await ploop("snapshot", descriptor);
    const refusal = await ploop("resize", "--shrink", "-s", "4M", descriptor);
    expect(refusal).toMatchObject({ status: 38, out: "" });
    expect(refusal.err).toContain("only a plain disk without snapshots gets smaller");
  });

  test("that is damaged is reported with the place", async () => {
    await init();
    const image = join(machine.folder, "disk", "root.hds");
    const bytes = await readFile(image);
    bytes.writeUInt32LE(77, 64 + 4 * 3);
    await writeFile(image, bytes);
    const found = await ploop("check", "-f", image);
    expect(found).toMatchObject({ status: 11 });
    expect(found.out).toContain("BAT entry 3: data cluster 77 lies beyond the end of the file FATAL");
    expect((await ploop("start", "--foreground", descriptor)).status).toBe(11);
    expect((await ploop("check", "-F", image)).status).toBe(0);
    bytes.write("X", 0);
    await writeFile(image, bytes);
    expect((await ploop("check", image)).err).toContain("signature");
  });
});

test("a running disk is served, and takes commands and messages", async () => {
  await init("-b", "64");
  expect((await ploop("status", descriptor)).status).toBe(12);
  const served = ploop("start", "--foreground", descriptor);
  let uri = "";
  for (let tries = 0; uri === "" && tries < 200; tries++) {
    uri = /uri: (.*)/.exec((await ploop("status", descriptor)).out)?.[1] ?? "";
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  const client = await NbdClient.connect(uri, { blockSize: 512 });
  await client.write(2048, new Uint8Array(4096).fill(9));
  expect((await ploop("start", "--foreground", descriptor)).status).toBe(12);
  expect((await ploop("snapshot-switch", "-u", "11111111-2222-3333-4444-555555555555", descriptor)).status).toBe(37);
  expect((await ploop("convert", "-v", "1", descriptor)).status).toBe(37);
  const guid = guidIn(await ploop("snapshot", descriptor));
  await client.write(2056, new Uint8Array(4096).fill(8));
  expect((await ploop("resize", "-s", "20M", descriptor)).status).toBe(0);
  expect((await ploop("message", descriptor, "get_delta_name", "1")).out).toContain("root.hds.{");
  expect((await ploop("tracking", descriptor, "start")).status).toBe(0);
  expect((await ploop("tracking", descriptor, "get_next")).out).toBe("0\n");
  expect((await ploop("status", descriptor)).out).toContain("status: 2 v2 64 t");
  expect((await ploop("snapshot-delete", "-u", guid, descriptor)).status).toBe(17);
  expect(
    (await ploop("snapshot-delete", "-u", "0".repeat(8) + "-0000-4000-8000-000000000000", descriptor)).status,
  ).toBe(17);
  expect((await ploop("message", descriptor, "resize", "100")).status).toBe(17);
  expect((await ploop("tracking", descriptor, "stop")).status).toBe(0);
  const cbt = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
  expect((await ploop("bitmap", descriptor, "start", "-u", cbt)).status).toBe(0);
  await client.write(4096, new Uint8Array(512).fill(3));
  expect((await ploop("bitmap", descriptor, "show", "-u", cbt)).out).toMatch(/^ +4096 +128$/m);
  expect((await ploop("suspend", descriptor)).status).toBe(0);
  expect((await ploop("message", descriptor, "push_backup_start", "0".repeat(32), "0", "5")).status).toBe(0);
  expect((await ploop("resume", descriptor)).status).toBe(0);
  expect((await ploop("message", descriptor, "push_backup_stop", "0".repeat(32))).out).toBe("0\n");
  expect((await ploop("message", descriptor, "push_backup_stop", "0".repeat(32))).status).toBe(38);
  expect(await ploop("snapshot-delete", "-u", guid, descriptor)).toMatchObject({
    status: 0,
    out: "ploop snapshot merged\n",
  });
  const data = new Uint8Array(8192);
  await client.read(2048, data);
  expect([data[0], data[4096]]).toEqual([9, 8]);
  await client.close();
  const [path, bytes] = await plain("through.raw", 60);
  expect((await ploop("copy", "-s", path, "-d", uri)).status).toBe(0);
  expect((await ploop("copy", "-s", descriptor, "-d", join(machine.folder, "out.raw"))).status).toBe(0);
  expect((await readFile(join(machine.folder, "out.raw"))).subarray(0, bytes.length).equals(bytes)).toBe(true);
  expect((await ploop("copy", "-s", uri, "-d", path)).status).toBe(12);
  expect((await ploop("stop", descriptor)).status).toBe(0);
  expect((await served).status).toBe(0);
  expect((await ploop("info", descriptor)).out).toContain("size:\t\t40960");
  expect((await ploop("check", "-f", descriptor)).status).toBe(0);
});

describe("values", () => {
  test.each([
    ["33000", 33000],
    ["0x800", 2048],
    ["010", 8],
    ["16M", 32768],
    ["1t", 2 ** 31],
  ])("%s is %i sectors", (text, sectors) => expect(sectorsOf(text)).toBe(sectors));
  test.each(["", "M", "-1", "1.5G", "0", "9999999999T"])("%j is no size", (text) => {
    expect(() => sectorsOf(text)).toThrow("An incorrect size");
  });
  test("a GUID may come without braces", () => {
    expect(guidOf("5FBAABE3-6958-40ff-92a7-860e329aab41")).toBe("{5fbaabe3-6958-40ff-92a7-860e329aab41}");
    expect(() => guidOf("5fbaabe3")).toThrow("Incorrect uuid");
  });
});
