/** The tools that the stand-alone packages of today do not have, and those that write. */
import { open, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Random } from "@vdo/base";
import { NbdClient } from "@vdo/nbd";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CommandLine, processGone } from "./support/command-line.ts";

const UUID = "1c5d5e9a-7e0e-4d4e-8d0b-6a3f1c7d9a10";

let commands: CommandLine;
let disk: string;
beforeAll(async () => {
  commands = await CommandLine.make();
  disk = join(commands.folder, "disk.img");
  await writeFile(disk, "");
  await truncate(disk, 3 * 2 ** 30);
});
afterAll(() => commands.remove());

test("format makes a volume, tells what it is, and does not overwrite one", async () => {
  const words = ["format", disk, "--slab-bits=15", "--logical-size=1G", "--verbose"];
  expect(await commands.vdo(...words)).toEqual({
    status: 0,
    out: [
      `Formatting '${disk}' with 262144 logical and 786432 physical blocks of 4096 bytes.`,
      "The VDO volume can address 256.00 MB in 2 data slabs, each 128.00 MB.",
      "It can grow to address at most 1.00 TB of physical storage in 8192 slabs.",
      "If a larger maximum size might be needed, use bigger slabs.",
      "",
    ].join("\n"),
    err: "",
  });
  const again = await commands.vdo(...words);
  expect(again.status).toBe(1);
  expect(again.err).toMatch(
    /^Found existing signature on .* TYPE="vdo" USAGE="other"\.\nCannot format device already containing a known signature!\nIf you are sure you want to format this device again, use the\n--force option\.\nvdoformat: checkForSignaturesUsingBlkid failed on '.*'\n$/,
  );
  const large = await commands.vdo("format", disk, "--force", "--uds-memory-size=1");
  expect(large).toEqual({
    status: 1467 & 0xff,
    out: expect.stringMatching(
      /^Found existing signature .*\nFormatting device already containing a known signature\.\n$/,
    ),
    err: `Minimum required size for VDO volume: 13475549184 bytes\nvdoformat: formatVDO failed on '${disk}': VDO Status: Out of space\nThe index takes 11193331712 bytes of it: use a larger device, smaller slabs (--slab-bits), or a smaller index.\n`,
  });
  expect((await commands.vdo("listMetadata", disk)).status).toBe(0);
  expect((await commands.vdo("format", disk, "--logical-size=10B")).err).toBe(
    "vdoformat: logical size must be a multiple of block size 4096\n",
  );
  expect((await commands.vdo("format", disk, "--logical-size=5P")).err).toBe(
    "vdoformat: 5629499534213120 requested logical space exceeds the maximum (4503599627370496): VDO Status: Out of range\n",
  );
  expect((await commands.vdo("format", disk, "--slab-bits=24")).err).toContain("invalid slab bits, must be 13-23\n");
});

test("setUUID and dumpConfig", async () => {
  expect(await commands.vdo("setUUID", `--device=${disk}`, `--uuid=${UUID}`)).toEqual({ status: 0, out: "", err: "" });
  const { out } = await commands.vdo("dumpConfig", disk);
  expect(out).toMatch(
    new RegExp(
      [
        "^VDOConfig:\n  blockSize: 4096\n  logicalBlocks: 262144\n  physicalBlocks: 786432\n  slabSize: 32768",
        "  recoveryJournalSize: 32768\n  slabJournalBlocks: 224",
        `UUID: ${UUID}\nReleaseVersion: \\d+\nNonce: \\d+\nIndexRegion: 1\nDataRegion: 679128`,
        "IndexConfig:\n  memory: 4294967040\n  checkpointFrequency: 0\n  sparse: false\n$",
      ].join("\n"),
    ),
  );
  await commands.vdo("setUUID", disk);
  expect((await commands.vdo("dumpConfig", disk)).out).not.toContain(UUID);
});

test("a running volume is not written to; the others warn", async () => {
  expect((await commands.vdo("import", "--name=v0", `--device=${disk}`, "--attach=none")).status).toBe(0);
  for (const words of [["setUUID"], ["regenerateGeometry"]]) {
    expect(await commands.vdo(...words, disk)).toEqual({
      status: 5,
      out: "",
      err: "vdo: ERROR - VDO volume v0 is running\n      Stop it first: vdo stop --name=v0\n",
    });
  }
  expect((await commands.vdo("format", disk, "--force")).status).toBe(5);
  const listed = await commands.vdo("listMetadata", "--name=v0");
  expect(listed.status).toBe(0);
  expect(listed.err).toContain("is running: the answer is about a moving picture");
});

test("debugMetadata finds a logical block in the recovery journal of a killed volume", async () => {
  const { attach, pid } = await commands.state("v0");
  const client = await NbdClient.connect(attach.path);
  await client.write(1000, new Random(3).fill(new Uint8Array(4096)), { fua: true });
  await client.write(1000, new Random(4).fill(new Uint8Array(4096)), { fua: true });
  await client.close();
  process.kill(pid, "SIGKILL");
  await processGone(pid);
  const dump = join(commands.folder, "dump");
  expect((await commands.vdo("dumpMetadata", disk, dump)).status).toBe(0);
  const before = await commands.vdo("debugMetadata", "--searchLBN=1000", dump);
  expect(before.status).toBe(0);
  // The interior pages may not be on the storage yet: then no page is known to map the block.
  await commands.vdo("start", "--name=v0");
  await commands.vdo("stop", "--name=v0", "--force");
  expect((await commands.vdo("dumpMetadata", disk, dump)).status).toBe(0);
  const found = await commands.vdo("debugMetadata", "--searchLBN=1000", "--searchLBN=7", dump);
  const lines = found.out.trimEnd().split("\n");
  expect(lines[0]).toMatch(/^Nonce value: \d+$/);
  expect(lines).toHaveLength(3);
  for (const line of lines.slice(1)) {
    expect(line).toMatch(
      /^found LBN 1000 at offset \d+ \(block not valid, sequence number \d+ possible\), sector \d \(sector not valid\), entry \d+ : PBN \d+, data remapping, mappingState 1$/,
    );
  }
});

test("regenerateGeometry brings a wiped volume back", async () => {
  await commands.vdo("remove", "--name=v0");
  const before = (await commands.vdo("dumpConfig", disk)).out;
  const file = await open(disk, "r+");
  await file.write(Buffer.alloc(4096), 0, 4096, 0);
  await file.close();
  expect((await commands.vdo("dumpConfig", disk)).err).toBe(`vdodumpconfig: Could not load VDO from '${disk}'\n`);
  expect(await commands.vdo("regenerateGeometry", disk)).toEqual({
    status: 0,
    out: "Found candidate super block at block 679128 (index memory 0.25GB)\n",
    err: "",
  });
  const withoutUuid = (text: string): string => text.replace(/UUID: .*/, "");
  const after = (await commands.vdo("dumpConfig", disk)).out;
  expect(withoutUuid(after)).toBe(withoutUuid(before));
  expect(after).not.toBe(before);
  expect((await commands.vdo("audit", `--device=${disk}`)).status).toBe(0);
  expect(await commands.vdo("regenerateGeometry", disk, "--offset=4096")).toEqual({
    status: 1,
    out: "",
    err: `No valid super block was found on ${disk}\n`,
  });
  const nothing = join(commands.folder, "nothing");
  await writeFile(nothing, Buffer.alloc(8192));
  expect((await commands.vdo("regenerateGeometry", nothing)).status).toBe(1);
  expect((await readFile(nothing)).every((byte) => byte === 0)).toBe(true);
});

test("calculateSize answers without a device, and refuses what cannot be", async () => {
  const { status, out } = await commands.vdo(
    ...["calculateSize", "--physical-size=1T", "--logical-size=10T", "--human-readable"],
  );
  expect(status).toBe(0);
  expect(out).toContain("Input parameters:\n  Physical size: 1.0T\n  Logical size: 10.0T\n  Slab size: 2.0G\n");
  expect(out).toContain("  Index size: 2.6G\n  Deduplication window: 256.0G\n");
  const small = await commands.vdo("calculateSize", "--physical-size=1G", "--logical-size=10G");
  expect(small.status).toBe(1);
  expect(small.err).toContain("the smallest volume with these options takes");
});

test("a tool needs exactly one storage", async () => {
  expect((await commands.vdo("listMetadata")).err).toContain(
    "vdo listMetadata: error: one of the arguments --device -n/--name FILE is required\n",
  );
  expect(await commands.vdo("listMetadata", disk, `--device=${disk}`)).toMatchObject({ status: 2 });
});
