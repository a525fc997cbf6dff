/** The kernel's index is loaded here; ours, with chapters that we closed, is loaded, or without a save rebuilt, by the kernel. */
import { copyFileSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Random } from "@vdo/base";
import { FileDevice, SliceDevice } from "@vdo/block-device";
import { describeWithKernel, runGuest } from "@vdo/oracle";
import { afterAll, describe, expect, test } from "vitest";
import { indexGeometry, UdsIndex } from "../src/index.ts";

const folder = mkdtempSync(join(tmpdir(), "uds-kernel-"));
const geometry = indexGeometry({ memory: 0.25 });
/** Unique blocks that the kernel writes, and names that we post afterwards: two chapters and a part. */
const BLOCKS = 4096;
const POSTED = 140_000;

/** Writes the data disk at 64 KiB times `seek`; `isNew` formats first. */
function guestScript(seek: number, isNew: boolean): string {
  return `
${isNew ? "vdoformat --force --logical-size=64G --slab-bits=13 /dev/vda || exit 1" : ""}
vdo_start vdo0 /dev/vda || exit 1
dd if=/dev/vdb of=/dev/mapper/vdo0 bs=64k count=256 seek=${seek} oflag=direct conv=fsync 2> /dev/null || exit 1
sleep 1
vdostats --verbose vdo0 | grep -E "entries indexed|posts found|posts not found|dedupe advice valid"
vdo_stop vdo0
`;
}

/** A figure of `vdostats --verbose`. */
function statistic(output: string, name: string): number {
  return Number(new RegExp(`${name}\\s*: (\\d+)`).exec(output)?.[1]);
}

/** Posts names until two chapters are closed behind the records of the kernel. */
async function fillChapters(image: string, save: boolean): Promise<void> {
  const disk = await FileDevice.open({ path: image });
  const block = new Uint8Array(4096);
  await disk.read(0, block);
  const nonce = new DataView(block.buffer).getBigUint64(32, true);
  const device = new SliceDevice(disk, { start: 1, blockCount: geometry.totalBlocks });
  const index = await UdsIndex.open({ device, firstBlock: 1, nonce, create: "never", rebuild: false });
  expect(index.statistics().entriesIndexed).toBe(BLOCKS);
  const names = new Random(5).fill(new Uint8Array(POSTED * 16));
  const values = new Uint8Array(POSTED * 16);
  for (let at = 0; at < values.length; at += 16) values.set([2, 1, 0x1a, 0x5d, 0x0a], at);
  await index.postBatch(names, values);
  await index.close({ save });
  await disk.flush();
  await disk.close();
}

describeWithKernel(
  "an index on a volume of the kernel",
  () => {
    const data = join(folder, "data");
    const saved = join(folder, "saved.img");
    const unsaved = join(folder, "unsaved.img");
    afterAll(() => rmSync(folder, { recursive: true, force: true }));

    test("is loaded here with every record", async () => {
      writeFileSync(data, new Random(1).fill(new Uint8Array(BLOCKS * 4096)));
      writeFileSync(saved, "");
      truncateSync(saved, 4 * 2 ** 30);
      const made = await runGuest({ script: guestScript(0, true), disks: [saved, data] });
      expect(made.exitCode, made.output).toBe(0);
      expect(statistic(made.output, "posts not found")).toBe(BLOCKS);
      copyFileSync(saved, unsaved);
      await fillChapters(saved, true);
      await fillChapters(unsaved, false);
    });

    test("is loaded by the kernel after we closed chapters and saved, and leads it to its blocks through them", async () => {
      const loaded = await runGuest({ script: guestScript(10_000, false), disks: [saved, data] });
      expect(loaded.exitCode, loaded.output).toBe(0);
      expect(loaded.kernelLog).toContain("loaded index from chapter 0 through chapter 1");
      expect(statistic(loaded.output, "entries indexed")).toBe(BLOCKS + POSTED);
      expect(statistic(loaded.output, "posts found")).toBe(BLOCKS);
      expect(statistic(loaded.output, "posts not found")).toBe(0);
      expect(statistic(loaded.output, "dedupe advice valid")).toBe(BLOCKS);
    });

    test("is rebuilt by the kernel from our chapters when we did not save", async () => {
      const rebuilt = await runGuest({ script: guestScript(10_000, false), disks: [unsaved, data] });
      expect(rebuilt.exitCode, rebuilt.output).toBe(0);
      expect(rebuilt.kernelLog).toContain("Replaying volume from chapter 0");
      expect(statistic(rebuilt.output, "entries indexed")).toBe(2 * geometry.recordsPerChapter);
      expect(statistic(rebuilt.output, "dedupe advice valid")).toBe(BLOCKS);
    });
  },
  { describe, test },
);
