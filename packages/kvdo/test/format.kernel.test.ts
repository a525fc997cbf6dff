/**
 * Our format against vdoformat: the reference machine formats several parameter sets, we format the same with the nonces
 * and UUIDs that it chose, and the devices must be equal in every block. Then its tools and its kernel take ours.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isVdoError } from "@vdo/base";
import { FileDevice } from "@vdo/block-device";
import { describeWithKernel, runGuest } from "@vdo/oracle";
import { afterAll, describe, expect, test } from "vitest";
import { format, planFormat, readVolumeInfo } from "../src/admin/index.ts";
import { statsMessage, verboseLines } from "../src/statistics/index.ts";
import { parseStatsMessage } from "./support/parse-stats-message.ts";

interface ParameterSet {
  /** MiB of the device, and bytes more. */
  mebibytes: number;
  extraBytes?: number;
  slabBits: number;
  /** GiB of index memory. */
  indexMemory: number;
  sparse?: boolean;
  /** MiB; absent for the default. */
  logicalMebibytes?: number;
}

const SETS: readonly ParameterSet[] = [
  { mebibytes: 2813, extraBytes: (720213 - 2813 * 256) * 4096, slabBits: 13, indexMemory: 0.25 },
  { mebibytes: 6144, slabBits: 13, indexMemory: 0.25 },
  { mebibytes: 6144, slabBits: 15, indexMemory: 0.25, logicalMebibytes: 20480 },
  { mebibytes: 6144, slabBits: 19, indexMemory: 0.25, extraBytes: 2560 },
  { mebibytes: 20480, slabBits: 17, indexMemory: 0.5, logicalMebibytes: 2 ** 20 },
  { mebibytes: 12288, slabBits: 14, indexMemory: 0.75 },
  { mebibytes: 20480, slabBits: 19, indexMemory: 1, logicalMebibytes: 3072 },
  { mebibytes: 40960, slabBits: 20, indexMemory: 0.25, sparse: true },
  { mebibytes: 81920, slabBits: 23, indexMemory: 0.25, logicalMebibytes: 2 ** 32 },
];

const options = ({ slabBits, indexMemory, sparse = false, logicalMebibytes = 0 }: ParameterSet) => ({
  slabBits,
  indexMemory,
  sparse,
  logicalSize: logicalMebibytes * 2 ** 20,
});

/** Blocks at the borders of everything that a format may touch. */
function borders(set: ParameterSet): number[] {
  const { physicalBlocks, indexBlocks, slabBlocks, slabCount } = planFormat(blocksOf(set), options(set));
  const data = 1 + indexBlocks;
  const places = [0, 1, 2, data - 1, data, data + 1, data + 60, data + 61, data + 61 + slabCount * slabBlocks];
  for (const end of [32833, 32832, 32831, 65, 64, 1]) places.push(physicalBlocks - end);
  return [...new Set(places)].filter((block) => block < physicalBlocks);
}

const bytesOf = ({ mebibytes, extraBytes = 0 }: ParameterSet): number => mebibytes * 2 ** 20 + extraBytes;
const blocksOf = (set: ParameterSet): number => Math.floor(bytesOf(set) / 4096);

/** Sparse files with leftovers at all borders. */
async function prepare(path: string, set: ParameterSet): Promise<void> {
  writeFileSync(path, "");
  truncateSync(path, bytesOf(set));
  const device = await FileDevice.open({ path });
  const leftover = new Uint8Array(4096).fill(0x77);
  for (const block of borders(set)) await device.write(block, leftover);
  await device.close();
}

const vdoformat = (set: ParameterSet, index: number): string => {
  const { indexMemory, slabBits, sparse, logicalMebibytes } = set;
  const words = ["vdoformat", `--slab-bits=${slabBits}`, `--uds-memory-size=${indexMemory}`];
  if (sparse) words.push("--uds-sparse");
  if (logicalMebibytes !== undefined) words.push(`--logical-size=${logicalMebibytes}M`);
  return `${words.join(" ")} /dev/vd${String.fromCharCode(97 + index)}`;
};

/** Each `stats` message in the output is followed by what vdostats made of it: ours must make the same. */
function expectSameStatistics(output: string, count: number): void {
  const lines = output.split("\n");
  const messages = lines.flatMap((line, i) => (line.startsWith("{ version : ") ? [i] : []));
  expect(messages).toHaveLength(count);
  for (const i of messages) {
    const statistics = parseStatsMessage(lines[i]!);
    expect(statsMessage(statistics)).toBe(lines[i]);
    const expected = verboseLines({ name: "v", statistics });
    expect(lines.slice(i + 1, i + 1 + expected.length)).toEqual(expected);
  }
}

describeWithKernel(
  "our format and vdoformat",
  () => {
    const folder = mkdtempSync(join(tmpdir(), "vdo-format-"));
    afterAll(() => rmSync(folder, { recursive: true, force: true }));
    const theirs = SETS.map((_, i) => join(folder, `theirs-${i}.img`));
    const ours = SETS.map((_, i) => join(folder, `ours-${i}.img`));

    test("write the same bytes for every parameter set", async () => {
      for (const [i, set] of SETS.entries()) await prepare(theirs[i]!, set);
      const script = `set -e\n${SETS.map(vdoformat).join("\n")}`;
      const { output, exitCode } = await runGuest({ script, disks: theirs, timeoutSeconds: 600 });
      expect(exitCode, output).toBe(0);
      for (const [i, set] of SETS.entries()) {
        await prepare(ours[i]!, set);
        const reference = await FileDevice.open({ path: theirs[i]!, readOnly: true });
        const { nonce, uuid, logicalBlocks } = await readVolumeInfo(reference);
        await reference.close();
        const device = await FileDevice.open({ path: ours[i]! });
        const report = await format(device, { ...options(set), nonce, uuid });
        await device.close();
        expect(report.logicalBlocks, `set ${i}`).toBe(logicalBlocks);
        const answer = execFileSync("qemu-img", ["compare", "-f", "raw", "-F", "raw", theirs[i]!, ours[i]!]);
        expect(answer.toString(), `set ${i}`).toBe("Images are identical.\n");
      }
    });

    test("the kernel starts what we formatted, and its audit finds the stopped volume in order", async () => {
      const small = [1, 2];
      const disks = small.map((i) => {
        const copy = join(folder, `started-${i}.img`);
        execFileSync("cp", ["--sparse=always", ours[i]!, copy]);
        return copy;
      });
      const script = `
        set -e
        for disk in /dev/vda /dev/vdb; do
          vdolistmetadata $disk
          vdo_start v $disk
          dd if=/dev/urandom of=/dev/mapper/v bs=1M count=4 oflag=direct
          dd if=/dev/mapper/v of=/tmp/data bs=1M count=4 iflag=direct
          sleep 1
          dmsetup message v 0 stats
          vdostats --verbose v
          vdo_stop v
          audit $disk
          vdo_start v $disk
          cmp -n 4194304 /dev/mapper/v /tmp/data
          vdo_stop v
        done`;
      const { output, exitCode } = await runGuest({ script, disks, timeoutSeconds: 300 });
      expect(exitCode, output).toBe(0);
      expect(output.match(/All pbn references matched\./g)).toHaveLength(2);
      expectSameStatistics(output, disks.length);
      for (const path of disks) {
        const device = await FileDevice.open({ path, readOnly: true });
        expect(await readVolumeInfo(device)).toMatchObject({ state: "CLEAN", logicalBlocksUsed: 1024 });
        await device.close();
      }
    });

    test("both list the same metadata regions for a volume", async () => {
      const { output, exitCode } = await runGuest({
        script: "set -e\nfor disk in /dev/vd?; do vdolistmetadata $disk | sed 's/^/|/'; echo =; done",
        disks: [theirs[4]!, ours[4]!, theirs[7]!, ours[7]!],
      });
      expect(exitCode, output).toBe(0);
      const lists = output.split("=\n").map((list) => list.split("\n").filter((line) => line.startsWith("|")));
      expect(lists[0]!.length).toBeGreaterThan(4);
      expect(lists[1]).toEqual(lists[0]);
      expect(lists[2]!.length).toBeGreaterThan(4);
      expect(lists[3]).toEqual(lists[2]);
    });

    test("both refuse a device that is one block too small, and name the same least size", async () => {
      const path = join(folder, "small.img");
      writeFileSync(path, "");
      truncateSync(path, 720212 * 4096);
      const device = await FileDevice.open({ path });
      const error: unknown = await format(device, { slabBits: 13 }).catch((reason: unknown) => reason);
      await device.close();
      if (!isVdoError(error, "VDO_DEVICE_TOO_SMALL")) throw error;
      const { output, exitCode } = await runGuest({ script: "vdoformat --slab-bits=13 /dev/vda", disks: [path] });
      expect(exitCode).not.toBe(0);
      expect(output).toContain(`Minimum required size for VDO volume: ${error.data.minimumBlocks * 4096} bytes`);
    });
  },
  { describe, test },
  ["qemu-img"],
);
