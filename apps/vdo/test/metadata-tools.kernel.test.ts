/** The offline tools against the stand-alone ones of Debian, line for line and status for status, on the same images. */
import { createHash } from "node:crypto";
import { closeSync, ftruncateSync, mkdtempSync, openSync, readFileSync, readSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Random } from "@vdo/base";
import { NbdClient } from "@vdo/nbd";
import { describeWithKernel, runGuest } from "@vdo/oracle";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CommandLine, processGone, runProgram } from "./support/command-line.ts";

/** In a volume with the smallest index, the first leaf of the block map and a block of reference counts of the first slab. */
const FIRST_LEAF = 679_189 + 3;
const COUNTS = 679_189 + 32_535;

/** Read from every image: DISK is the image, OUT a folder. */
const READING: readonly string[] = [
  "vdoaudit DISK",
  "vdoaudit --summary -v DISK",
  "vdoaudit -v --summ DISK",
  "vdodumpblockmap DISK",
  "vdodumpblockmap --lba=0 DISK",
  "vdodumpblockmap DISK --lba 0x1388",
  "vdodumpblockmap -l 0310 DISK",
  "vdodumpblockmap -l1 --lba=5001 DISK",
  "vdodumpblockmap --lba=99999 DISK",
  "vdodumpblockmap --lba=99999999 DISK",
  "vdolistmetadata DISK",
  "vdodumpmetadata -l 0 -l 3000000 -l 99999 DISK OUT/some",
  "vdodumpmetadata -l 99999999 DISK OUT/x",
];

/** A dump of everything takes its time: only of those where most differs. */
const DUMPED: readonly string[] = ["dirty", "grown"];
const DUMPING: readonly string[] = [
  "vdodumpmetadata DISK OUT/all",
  "vdodebugmetadata -p 679193 -p 679208 --pbn=5 -p 711800 OUT/all",
];

const TOOLS = [
  ...["vdoformat", "vdoaudit", "vdodumpblockmap", "vdolistmetadata", "vdodumpmetadata", "vdodebugmetadata"],
  ...["vdoreadonly", "vdoforcerebuild"],
];

/** Mistakes, and what is no volume. EMPTY is a small image of zeros. */
const MISTAKES: readonly string[] = [
  ...TOOLS.flatMap((tool) => [tool, `${tool} --bogus`, `${tool} EMPTY EMPTY EMPTY`]),
  // These two report a mistake, and go on without the option: not copied.
  ...TOOLS.filter((tool) => !/dumpblockmap|debug/.test(tool)).flatMap((tool) => [
    `${tool} -x EMPTY`,
    `${tool} --help=1 EMPTY`,
  ]),
  ...TOOLS.map((tool) => `${tool} --version`),
  ...TOOLS.slice(0, 6).map((tool) => `${tool} -V`),
  ...["vdoreadonly -V", "vdoforcerebuild -V", "vdoreadonly /no/such", "vdoforcerebuild /no/such"],
  ...["vdoreadonly EMPTY", "vdoforcerebuild EMPTY", "vdoaudit EMPTY", "vdoaudit /no/such"],
  ...["vdodumpblockmap EMPTY", "vdodumpblockmap /no/such", "vdodumpblockmap --lba=x EMPTY"],
  ...["vdodumpblockmap --lba= EMPTY", "vdodumpblockmap --lba", "vdodumpblockmap -l"],
  ...["vdolistmetadata EMPTY", "vdolistmetadata /no/such", "vdodumpmetadata EMPTY OUT/x"],
  ...["vdodumpmetadata --lbn=x EMPTY OUT/x", "vdodebugmetadata --pbn=x EMPTY", "vdodebugmetadata --searchLBN=x EMPTY"],
  ...["vdodebugmetadata -p 679193 /no/such", "vdodebugmetadata EMPTY"],
  ...["vdoformat --logical-size=1Z EMPTY", "vdoformat -l 1.5G EMPTY", "vdoformat -l -1 EMPTY"],
  ...["vdoformat --logical-size=10B EMPTY", "vdoformat --logical-size=5P EMPTY", "vdoformat -m 1.5 EMPTY"],
  ...["vdoformat -m 0 EMPTY", "vdoformat -m 1025 EMPTY", "vdoformat -S 15 EMPTY", "vdoformat -m 1 EMPTY"],
];

/** Written to the image WORK, a copy of the clean one; in this order. */
const WRITING: readonly string[] = [
  "vdoforcerebuild WORK",
  "vdoreadonly WORK",
  "vdoaudit WORK",
  "vdodumpblockmap --lba=0 WORK",
  "vdoforcerebuild WORK",
  "vdoaudit WORK",
  "vdoforcerebuild WORK",
  "vdoformat WORK",
  "vdoformat --force -l 1g -l 2g --slab=15 --verb WORK",
  "vdoformat -fv -S 15 --logical-size=0 WORK",
  "vdoaudit WORK",
  "vdoaudit -v WORK",
  // The last one: a failure of the original has destroyed the volume already.
  "vdoformat -f -l 017 -S 0xf -m 0.50 -v WORK",
];

let commands: CommandLine;
let folder: string;
beforeAll(async () => {
  commands = await CommandLine.make();
  folder = mkdtempSync(join(tmpdir(), "vdo-tools-"));
});
afterAll(async () => {
  await commands.remove();
  rmSync(folder, { recursive: true });
});

const image = (name: string): string => join(folder, `${name}.img`);

function sparse(name: string, bytes: number): void {
  const file = openSync(image(name), "w");
  ftruncateSync(file, bytes);
  closeSync(file);
}

async function copyImage(from: string, to: string): Promise<void> {
  const { err } = await runProgram("cp", ["--sparse=always", image(from), image(to)]);
  expect(err).toBe("");
}

async function run(...words: string[]): Promise<void> {
  expect(await commands.vdo(...words)).toMatchObject({ status: 0 });
}

/** Data of every kind. */
async function fill(): Promise<void> {
  const client = await NbdClient.connect((await commands.state("v0")).attach.path);
  const data = Buffer.alloc(20 * 4096);
  for (let i = 0; i < 20; i++) new Random(i + 1).fill(data.subarray(i * 4096, i * 4096 + (i < 15 ? 300 : 4096)));
  await client.write(0, data);
  await client.flush();
  await client.write(5000, data.subarray(4096));
  await client.write(3_000_000, new Random(77).fill(new Uint8Array(8192)));
  await client.write(200, new Uint8Array(4096));
  await client.flush();
  await client.close();
}

/** Clean, killed while it was in use, grown, in read-only mode, and damaged in its block map and counts. */
async function makeImages(): Promise<void> {
  sparse("clean", 3 * 2 ** 30);
  sparse("empty", 2 ** 20);
  const sizes = ["--vdoSlabSize=128M", "--vdoLogicalSize=16G", "--attach=none"];
  await run("create", "--name=v0", `--device=${image("clean")}`, ...sizes);
  await fill();
  const { pid } = await commands.state("v0");
  process.kill(pid, "SIGKILL");
  await processGone(pid);
  await copyImage("clean", "dirty");
  await run("start", "--name=v0");
  await run("stop", "--name=v0");
  await copyImage("clean", "grown");
  await run("remove", "--name=v0");
  await run("import", "--name=v0", `--device=${image("grown")}`, "--attach=none");
  await run("growLogical", "--name=v0", "--vdoLogicalSize=20G");
  await run("growPhysical", "--name=v0", "--vdoPhysicalSize=3500M");
  await fill();
  await run("stop", "--name=v0", "--force");
  await run("remove", "--name=v0");
  await copyImage("clean", "readonly");
  await run("setReadOnly", image("readonly"));
  await copyImage("clean", "damaged");
  const file = openSync(image("damaged"), "r+");
  const block = Buffer.alloc(4096);
  readSync(file, block, 0, 4096, FIRST_LEAF * 4096);
  // A mapping without a block, one that is out of range, and a count that nobody has.
  block.fill(0, 36 + 2 * 5, 36 + 3 * 5).fill(0xff, 36 + 7 * 5, 36 + 8 * 5);
  writeSync(file, block, 0, 4096, FIRST_LEAF * 4096);
  readSync(file, block, 0, 4096, COUNTS * 4096);
  block[8 + 100] = 77;
  writeSync(file, block, 0, 4096, COUNTS * 4096);
  closeSync(file);
  await copyImage("clean", "work");
}

const IMAGES = ["clean", "dirty", "grown", "readonly", "damaged"];
const DISKS: Readonly<Record<string, string>> = Object.fromEntries(
  [...IMAGES, "empty", "work"].map((name, i) => [name, `/dev/vd${"abcdefgh"[i]}`]),
);

/** A call with the paths of one side. */
function words(call: string, disk: string, place: (name: string) => string, out: string): string {
  return call
    .replaceAll("DISK", place(disk))
    .replaceAll("EMPTY", place("empty"))
    .replaceAll("WORK", place("work"))
    .replaceAll("OUT", out);
}

const CALLS: readonly (readonly [call: string, disk: string])[] = [
  ...IMAGES.flatMap((disk) => READING.map((call) => [call, disk] as const)),
  ...DUMPED.flatMap((disk) => DUMPING.map((call) => [call, disk] as const)),
  ...[...MISTAKES, ...WRITING].map((call) => [call, "clean"] as const),
];

/** Name of the file that a call leaves. */
const dumpOf = (call: string): string | undefined => /^vdodumpmetadata .* OUT\/(all|some)$/.exec(call)?.[1];

/** What differs by nature: the version, and the UUID of a volume that was just made. */
const masked = (text: string): string =>
  text.replace(/version is: .*/, "version is: V").replace(/UUID="[-0-9a-f]{36}"/, "UUID");

describeWithKernel(
  "the tools",
  () => {
    test("say and do what the stand-alone ones do", async () => {
      await makeImages();
      const sum = (name: string): string => `echo "sum $(sha256sum < /tmp/${name} | cut -d' ' -f1)"`;
      const guest = await runGuest({
        disks: Object.keys(DISKS).map((name) => ({ path: image(name), readOnly: !["empty", "work"].includes(name) })),
        script: [
          "call() {",
          '  echo "=== $1"; shift; "$@" > /tmp/out 2> /tmp/err; status=$?',
          '  cat /tmp/out; echo "--- errors"; cat /tmp/err; echo "--- status $status"',
          "}",
          // The writing calls must not see what ours have done: those run on the image afterwards.
          ...CALLS.flatMap(([call, disk], i) => [
            `call ${i} ${words(call, disk, (name) => DISKS[name] ?? "", "/tmp")}`,
            ...(dumpOf(call) === undefined ? [] : [sum(dumpOf(call) as string)]),
          ]),
          'echo "=== end"',
        ].join("\n"),
        timeoutSeconds: 400,
      });
      await copyImage("clean", "work");
      const differences: string[] = [];
      for (const [i, [call, disk]] of CALLS.entries()) {
        const [tool = "", ...rest] = words(call, disk, image, folder).split(" ");
        const { status, out, err } = await commands.tool(tool, ...rest);
        let ours = `${out}--- errors\n${err}--- status ${status}\n`;
        const dump = dumpOf(call);
        if (dump !== undefined) {
          ours += `sum ${createHash("sha256")
            .update(readFileSync(join(folder, dump)))
            .digest("hex")}\n`;
        }
        for (const [name, device] of Object.entries(DISKS)) ours = ours.replaceAll(image(name), device);
        const [, after = ""] = guest.output.split(`=== ${i}\n`);
        const theirs = masked(after.split("===")[0] ?? "");
        if (masked(ours) !== theirs) differences.push(`${call} of ${disk}\nours:\n${masked(ours)}theirs:\n${theirs}`);
      }
      expect(differences.join("\n")).toBe("");
    });
  },
  { describe, test },
);
