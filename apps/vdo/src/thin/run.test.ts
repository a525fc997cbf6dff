import { mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FileDevice, MemoryDevice } from "@vdo/block-device";
import { TestMachine } from "@vdo/manager/testing";
import { NbdClient, NbdServer } from "@vdo/nbd";
import { ThinPool } from "@vdo/thin";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { runVdo } from "../run.ts";
import { THIN_COMMANDS } from "./grammar.ts";
import { bytesOf, inUnit } from "./values.ts";

let folder: string;
let metadata: string;
let data: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "vdo-thin-"));
  [metadata, data] = [join(folder, "metadata"), join(folder, "data")];
  for (const [path, size] of [
    [metadata, 4 << 20],
    [data, 32 << 20],
  ] as const) {
    await writeFile(path, "");
    await truncate(path, size);
  }
});
afterEach(() => rm(folder, { recursive: true }));

interface Outcome {
  status: number;
  out: string;
  err: string;
}

async function thin(...words: string[]): Promise<Outcome> {
  const machine = await TestMachine.make();
  let [out, err] = ["", ""];
  const streams = {
    out: (text: string) => {
      out += text;
    },
    err: (text: string) => {
      err += text;
    },
  };
  const status = await runVdo({ words: ["thin", ...words], streams, environment: machine.environment });
  await machine.remove();
  return { status, out, err };
}

const pool = (): string[] => ["--metadata-dev", metadata, "--data-dev", data];

test.each(Object.keys(THIN_COMMANDS))("%s --help tells what it does", async (name) => {
  const help = await thin(name, "--help");
  expect(help).toMatchObject({ status: 0, err: "" });
  expect(help.out).toContain(`usage: vdo thin ${name}`);
  if (name !== "list") expect(await thin(name)).toMatchObject({ status: 1, out: "" });
});

test("every command tells the version", async () => {
  expect(await thin("check", "-V")).toMatchObject({ status: 0, out: "1.2.3\n" });
  expect(await thin("send", "--version")).toMatchObject({ status: 0, out: "1.2.3\n" });
});

test("without a command, and with one that is unknown, it says what there is", async () => {
  expect(await thin()).toMatchObject({ status: 1, out: "" });
  expect((await thin("fly")).err).toContain("Unknown command: fly");
  expect((await thin("--help")).out).toContain("metadata-size");
});

/** A pool with a device of 20 blocks and a snapshot of it, in which 5 were rewritten. */
async function makePool(): Promise<void> {
  expect(await thin("create-pool", ...pool())).toMatchObject({ status: 0 });
  expect(await thin("create", ...pool(), "0")).toMatchObject({ status: 0 });
  await writeTo(0, 0, 20);
  expect(await thin("snapshot", ...pool(), "1", "0")).toMatchObject({ status: 0 });
  await writeTo(1, 3, 5);
}

async function writeTo(id: number, block: number, count: number): Promise<void> {
  const [metadataDevice, dataDevice] = [
    await FileDevice.open({ path: metadata }),
    await FileDevice.open({ path: data }),
  ];
  const opened = await ThinPool.open({ metadata: metadataDevice, data: dataDevice, blockSectors: 128 });
  const volume = await opened.volume({ id, sectors: 65_536 });
  await volume.write(block * 16, new Uint8Array(count * 65_536).fill(id + 1));
  await volume.close();
  await opened.close();
  await metadataDevice.close();
  await dataDevice.close();
}

describe("a pool from the command line", () => {
  test("is made, used, listed and compared", async () => {
    await makePool();
    const status = await thin("status", ...pool());
    expect(status.out).toMatch(/^0 \d+\/1024 25\/512 - rw no_discard_passdown queue_if_no_space - 256 \n$/);
    expect((await thin("list", metadata)).out).toBe(
      "DEV  MAPPED CREATE_TIME SNAP_TIME \n  0 1280KiB           0         1 \n  1 1280KiB           1         1 \n",
    );
    const fields = await thin("ls", "--no-headers", "-o", "DEV,EXCLUSIVE_BLOCKS,SHARED", metadata);
    expect(fields.out).toBe("0 5 960KiB \n1 5 960KiB \n");
    expect((await thin("delta", "--thin1", "0", "--snap2", "1", metadata)).out).toContain(
      '    <same begin="0" length="3"/>\n    <different begin="3" length="5"/>\n    <same begin="8" length="12"/>\n',
    );
    expect((await thin("rmap", "--region", "20..22", metadata)).out).toBe("data 20..22 -> thin(1) 3..5\n");
    expect(await thin("check", metadata)).toMatchObject({
      status: 0,
      err: "examining superblock\nexamining devices tree\nexamining mapping tree\nchecking space map counts\n",
    });
    expect(await thin("message", ...pool(), "reserve_metadata_snap")).toMatchObject({ status: 0 });
    expect((await thin("check", "-m", metadata)).status).toBe(0);
    expect((await thin("delete", ...pool(), "0")).status).toBe(0);
    expect((await thin("ls", "-m", "--no-headers", metadata)).out.split("\n")).toHaveLength(3);
    expect(await thin("delete", ...pool(), "0")).toMatchObject({
      status: 1,
      err: expect.stringContaining("no thin device 0"),
    });
    expect((await thin("trim", ...pool())).err).toContain("takes no discards");
  });

  test("may lie on an NBD export, with discards passed down", async () => {
    const device = new MemoryDevice({ blockCount: 8192 });
    const socket = join(folder, "data.sock");
    const server = new NbdServer({ exports: [{ name: "data", description: "in memory", device }] });
    await server.listen({ path: socket });
    const onExport = ["--metadata-dev", metadata, "--data-dev", `nbd+unix:///data?socket=${socket}`];
    const made = await thin("create-pool", ...onExport);
    expect(made).toMatchObject({ status: 0, err: "" });
    expect(made.out).toContain(" rw discard_passdown ");
    await device.write(0, new Uint8Array(4096).fill(1));
    expect((await thin("trim", ...onExport)).out).toBe("512 data blocks were discarded\n");
    expect(await device.extents(0, 16)).toMatchObject([{ hole: true }]);
    await server.close();
  });

  test("is dumped, restored and repaired", async () => {
    await makePool();
    const xml = await thin("dump", metadata);
    expect(xml.out).toContain('<range_mapping origin_begin="0" data_begin="0" length="20" time="0"/>');
    const file = join(folder, "dump.xml");
    expect(await thin("dump", "-o", file, metadata)).toMatchObject({ status: 0, out: "" });
    expect(await readFile(file, "utf8")).toBe(xml.out);
    expect((await thin("dump", "--dev-id", "1", "--skip-mappings", metadata)).out).not.toContain("mapping ");
    expect((await thin("dump", "-f", "human_readable", metadata)).out).toContain("    (0..19) -> (0..19), 0\n");
    const copy = join(folder, "copy");
    await writeFile(copy, Buffer.alloc(4 << 20, 7));
    expect(await thin("restore", "-i", file, "-o", copy)).toMatchObject({ status: 0, err: "" });
    expect((await thin("dump", copy)).out).toBe(xml.out);
    expect(await thin("repair", "-i", metadata, "-o", copy)).toMatchObject({
      status: 0,
      err: "",
      out: "2 devices were kept\n",
    });
    expect((await thin("dump", copy)).out).toBe(xml.out);
    expect((await thin("dump", "-r", metadata)).out).toBe(xml.out);
  });

  test("that is damaged is refused, with the next step", async () => {
    await makePool();
    const bytes = await readFile(metadata);
    bytes[100] = (bytes[100] as number) ^ 1;
    await writeFile(metadata, bytes);
    const found = await thin("check", metadata);
    expect(found.status).toBe(1);
    expect(found.err).toContain("fatal: superblock: bad checksum");
    expect(await thin("check", "-q", metadata)).toMatchObject({ status: 1, out: "", err: "" });
    expect((await thin("dump", metadata)).err).toContain("perhaps you wanted to run with --repair");
    expect(await thin("status", ...pool())).toMatchObject({
      status: 1,
      err: expect.stringContaining("vdo thin repair"),
    });
    expect((await thin("create-pool", ...pool())).err).toContain("is not blank");
    expect((await thin("check", "--auto-repair", "-m", metadata)).status).toBe(1);
    expect((await thin("check", join(folder, "missing"))).status).toBe(1);
  });
});

test("a pool is served over NBD, takes messages while it runs, and is stopped", async () => {
  await makePool();
  const machine = await TestMachine.make();
  const socket = join(folder, "pool.sock");
  let out = "";
  const collect = (text: string): void => {
    out += text;
  };
  const streams = { out: collect, err: () => undefined };
  const run = (...words: string[]): Promise<number> =>
    runVdo({ words: ["thin", ...words], streams, environment: machine.environment });
  const served = run("start", ...pool(), "--size", "32M", "--socket", socket);
  while (!out.includes("is ready at")) await new Promise((resolve) => setTimeout(resolve, 10));
  expect(await run("start", ...pool(), "--size", "32M")).toBe(1);

  const origin = await NbdClient.connect(`nbd+unix:///0?socket=${socket}`);
  expect(await run("snapshot", ...pool(), "7", "0")).toBe(0);
  await origin.write(0, new Uint8Array(4096).fill(200));
  await origin.flush();
  const snapshot = await NbdClient.connect(`nbd+unix:///7?socket=${socket}`);
  const [now, then] = [new Uint8Array(4096), new Uint8Array(4096)];
  await origin.read(0, now);
  await snapshot.read(0, then);
  expect([now[0], then[0], origin.blockCount]).toEqual([200, 1, 8192]);
  await snapshot.close();
  expect(await run("delete", ...pool(), "7")).toBe(0);
  expect(await run("delete", ...pool(), "7")).toBe(1);
  out = "";
  expect(await run("status", ...pool())).toBe(0);
  expect(out).toMatch(/^0 \d+\/1024 26\/512 - rw /);
  await origin.close();
  expect(await run("stop", ...pool())).toBe(0);
  expect(await served).toBe(0);
  expect(await run("stop", ...pool())).toBe(1);
  await machine.remove();
  expect((await thin("check", metadata)).status).toBe(0);
});

describe("sizes", () => {
  test("are answered as thin_metadata_size does", async () => {
    const options = ["-b", "64k", "-s", "1t", "-m", "1000"];
    expect((await thin("metadata-size", ...options)).out).toBe(
      'thin_metadata_size - 1073224 sectors estimated metadata area size for "--block-size=64kibibytes --pool-size=1tebibytes --max-thins=1000"\n',
    );
    expect((await thin("metadata-size", ...options, "-n", "-u", "m")).out).toBe("524.04\n");
    expect((await thin("metadata-size", ...options, "-nshort", "-u", "m")).out).toBe("524.04m\n");
    expect((await thin("metadata-size", ...options, "-nlong")).out).toBe("1073224sectors\n");
    const decimal = ["-b", "128", "-s", "100g", "-m", "10", "-u", "M"];
    expect((await thin("metadata-size", ...decimal)).out).toContain(
      '53.31 megabytes estimated metadata area size for "--block-size=128sectors ',
    );
    expect((await thin("metadata-size", "-b", "64k", "-s", "1x", "-m", "1")).status).toBe(1);
    expect((await thin("metadata-size", "-b", "10k", "-s", "1g", "-m", "1")).status).toBe(1);
  });

  test("are read with suffixes", () => {
    expect([bytesOf("128"), bytesOf("64K"), bytesOf("1g"), bytesOf("7b")]).toEqual([65_536, 65_536, 2 ** 30, 7]);
    expect(() => bytesOf("64X")).toThrow();
    expect(inUnit(4096, "s")).toBe("8");
  });
});
