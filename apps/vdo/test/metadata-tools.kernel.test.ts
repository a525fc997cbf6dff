/** The tools about metadata against the stand-alone ones, line for line, on the same volumes. */
import { createHash } from "node:crypto";
import { closeSync, ftruncateSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Random } from "@vdo/base";
import { NbdClient } from "@vdo/nbd";
import { describeWithKernel, runGuest } from "@vdo/oracle";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CommandLine } from "./support/command-line.ts";

/** One call: our words, and the words of the stand-alone tool; DISK, DUMP and OUT are replaced. */
type Call = readonly [ours: string, theirs: string];

const CALLS: readonly Call[] = [
  ["dumpBlockMap DISK", "vdodumpblockmap DISK"],
  ["dumpBlockMap --lba=0 DISK", "vdodumpblockmap --lba=0 DISK"],
  ["dumpBlockMap --lba 0x1388 DISK", "vdodumpblockmap --lba 0x1388 DISK"],
  ["dumpBlockMap -l 0310 DISK", "vdodumpblockmap -l 0310 DISK"],
  ["dumpBlockMap --lba=99999 DISK", "vdodumpblockmap --lba=99999 DISK"],
  ["dumpBlockMap --lba=5001 DISK", "vdodumpblockmap --lba=5001 DISK"],
  ["dumpBlockMap --lba=x DISK", "vdodumpblockmap --lba=x DISK"],
  ["dumpBlockMap --lba=99999999 DISK", "vdodumpblockmap --lba=99999999 DISK"],
  ["dumpBlockMap /no/such/disk", "vdodumpblockmap /no/such/disk"],
  ["dumpBlockMap EMPTY", "vdodumpblockmap EMPTY"],
  ["listMetadata DISK", "vdolistmetadata DISK"],
  ["listMetadata /no/such/disk", "vdolistmetadata /no/such/disk"],
  ["listMetadata EMPTY", "vdolistmetadata EMPTY"],
  ["dumpMetadata DISK OUT/all", "vdodumpmetadata DISK OUT/all"],
  ["dumpMetadata --no-block-map DISK OUT/none", "vdodumpmetadata --no-block-map DISK OUT/none"],
  ["dumpMetadata -l 0 -l 3000000 -l 99999 DISK OUT/some", "vdodumpmetadata -l 0 -l 3000000 -l 99999 DISK OUT/some"],
  ["dumpMetadata -l 99999999 DISK OUT/x", "vdodumpmetadata -l 99999999 DISK OUT/x"],
  ["dumpMetadata EMPTY OUT/x", "vdodumpmetadata EMPTY OUT/x"],
  [
    "debugMetadata -p 679193 -p 679208 -p 5 -p 711800 OUT/all",
    "vdodebugmetadata -p 679193 -p 679208 -p 5 -p 711800 OUT/all",
  ],
  ["debugMetadata -p 679193 /no/such/dump", "vdodebugmetadata -p 679193 /no/such/dump"],
];
const DUMPS = ["all", "none", "some"];

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

function sparse(path: string, bytes: number): string {
  const file = openSync(path, "w");
  ftruncateSync(file, bytes);
  closeSync(file);
  return path;
}

/** Writes data of every kind; `kill` leaves the volume as a power cut does. */
async function makeVolume(disk: string, { kill }: { kill: boolean }): Promise<void> {
  const sizes = ["--vdoSlabSize=128M", "--vdoLogicalSize=16G", "--attach=none", "--force"];
  expect(await commands.vdo("create", "--name=v0", `--device=${disk}`, ...sizes)).toMatchObject({ status: 0 });
  const state = await commands.state("v0");
  const client = await NbdClient.connect(state.attach.path);
  const data = Buffer.alloc(20 * 4096);
  for (let i = 0; i < 20; i++) new Random(i + 1).fill(data.subarray(i * 4096, i * 4096 + (i < 15 ? 300 : 4096)));
  await client.write(0, data);
  await client.flush();
  await client.write(5000, data.subarray(4096));
  await client.write(3_000_000, new Random(77).fill(new Uint8Array(8192)));
  await client.write(200, new Uint8Array(4096));
  await client.flush();
  await client.close();
  if (kill) process.kill(state.pid, "SIGKILL");
  await commands.vdo("stop", "--name=v0", "--force");
  await commands.vdo("remove", "--name=v0");
}

describeWithKernel(
  "the tools",
  () => {
    test.each([
      ["a volume that was stopped cleanly", false],
      ["a volume that was not", true],
    ])("say of %s what the stand-alone ones say", async (_what, kill) => {
      const disk = sparse(join(folder, "disk.img"), 4 * 2 ** 30);
      const empty = sparse(join(folder, "empty.img"), 2 ** 20);
      await makeVolume(disk, { kill });
      const theirs = (text: string): string =>
        text.replace("DISK", "/dev/vda").replace("EMPTY", "/dev/vdb").replace("OUT", "/tmp");
      const guest = await runGuest({
        disks: [
          { path: disk, readOnly: true },
          { path: empty, readOnly: true },
        ],
        script: [
          "exec 2>&1",
          ...CALLS.map(([, call], i) => `echo "=== ${i}"; ${theirs(call)}; echo "status $?"`),
          'echo "=== end"',
          ...DUMPS.map((name) => `echo "dump ${name} $(sha256sum < /tmp/${name} | cut -d' ' -f1)"`),
        ].join("\n"),
      });
      for (const [i, [call]] of CALLS.entries()) {
        const words = call.replace("DISK", disk).replace("EMPTY", empty).replace("OUT", folder).split(" ");
        const { status, out, err } = await commands.vdo(...words);
        const ours = `${out}${err}status ${status}\n`.replaceAll(disk, "/dev/vda").replaceAll(empty, "/dev/vdb");
        const [, after = ""] = guest.output.split(`=== ${i}\n`);
        expect(ours, call).toBe(after.split("===")[0]);
      }
      for (const name of DUMPS) {
        const ours = createHash("sha256")
          .update(readFileSync(join(folder, name)))
          .digest("hex");
        expect(guest.output).toContain(`dump ${name} ${ours}\n`);
      }
    });
  },
  { describe, test },
);
