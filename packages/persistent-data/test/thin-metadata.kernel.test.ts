/**
 * The kernel's dm-thin and this library do the same operations, each on its own device, and leave the same blocks behind. Then
 * metadata that the library wrote is taken by thin_check, thin_dump and dm-thin, and the library goes on from what dm-thin left.
 */
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Random } from "@vdo/base";
import { FileDevice, MemoryDevice } from "@vdo/block-device";
import { describeWithKernel, runGuest } from "@vdo/oracle";
import { afterAll, describe, expect, test } from "vitest";
import { BLOCK_BYTES, Block, blockChecksum, NODE_KIND } from "../src/index.ts";
import { TestPool } from "./support/thin-pool.ts";

const METADATA_BLOCKS = 2048;
const DATA_BLOCKS = 5120;
const VIRTUAL_BLOCKS = 12_000;

type Operation = ["write" | "discard", number, number, number] | ["snapshot", number, number] | ["delete", number];

/** A history of nine devices. Every block written, every snapshot and every discard is a transaction. */
function history(seed: number): Operation[] {
  const random = new Random(seed);
  const operations: Operation[] = [];
  const writes = (id: number, count: number): void => {
    for (let i = 0; i < count; i++) {
      operations.push(["write", id, random.below(VIRTUAL_BLOCKS - 30), 1 + random.below(25)]);
    }
  };
  writes(0, 130);
  operations.push(["snapshot", 1, 0]);
  writes(0, 8);
  writes(1, 25);
  for (let i = 0; i < 6; i++)
    operations.push(["discard", i % 2, random.below(VIRTUAL_BLOCKS - 2000), 1 + random.below(1900)]);
  // Counts of three and more, in both maps.
  for (const [id, origin] of [
    [3, 1],
    [4, 3],
    [5, 1],
  ] as const) {
    operations.push(["snapshot", id, origin]);
    writes(id, 6);
    writes(origin, 2);
  }
  operations.push(["delete", 3], ["discard", 4, 0, 2500]);
  operations.push(["snapshot", 2, 1]);
  writes(2, 6);
  operations.push(["delete", 0]);
  writes(1, 4);
  for (let i = 0; i < 4; i++)
    operations.push(["discard", 2, random.below(VIRTUAL_BLOCKS - 2000), 1 + random.below(1900)]);
  operations.push(["snapshot", 6, 2], ["snapshot", 7, 2], ["snapshot", 8, 6]);
  return operations;
}

async function play(pool: TestPool, operations: readonly Operation[]): Promise<void> {
  const step = async (steps: () => ReturnType<TestPool["remove"]>): Promise<void> => {
    await pool.store.write(steps);
    await pool.commit();
  };
  await step(() => pool.createThin(0));
  for (const operation of operations) {
    if (operation[0] === "snapshot") await step(() => pool.createSnapshot(operation[1], operation[2]));
    else if (operation[0] === "delete") await step(() => pool.remove(operation[1]));
    else if (operation[0] === "discard") {
      await step(() => pool.discard(operation[1], operation[2], operation[2] + operation[3]));
    } else {
      const [, id, start, count] = operation;
      for (let i = 0; i < count; i++) await step(() => pool.write(id, start + i));
    }
  }
}

/** The same for dm-thin: O_DSYNC makes every block a transaction of its own. */
function guestLines(operations: readonly Operation[]): string {
  const size = VIRTUAL_BLOCKS * 128;
  const create = (id: number): string =>
    `dmsetup create t${id} --table "0 ${size} thin /dev/mapper/pool ${id}" || exit 1`;
  const lines = ['dmsetup message pool 0 "create_thin 0" || exit 1', create(0)];
  for (const operation of operations) {
    if (operation[0] === "snapshot") {
      const [, id, origin] = operation;
      lines.push(`dmsetup suspend t${origin}; dmsetup message pool 0 "create_snap ${id} ${origin}" || exit 1`);
      lines.push(`dmsetup resume t${origin}`, create(id));
    } else if (operation[0] === "delete") {
      lines.push(`dmsetup remove t${operation[1]}; dmsetup message pool 0 "delete ${operation[1]}" || exit 1`);
    } else if (operation[0] === "discard") {
      const [, id, start, count] = operation;
      lines.push(
        `blkdiscard -o ${start * 65536} -l ${count * 65536} /dev/mapper/t${id} || exit 1; sync /dev/mapper/t${id}`,
      );
    } else {
      const [, id, start, count] = operation;
      lines.push(
        `/bin/dd if=/dev/zero of=/dev/mapper/t${id} bs=64k seek=${start} count=${count} oflag=direct,dsync 2> /dev/null || exit 1`,
      );
    }
  }
  return lines.join("\n");
}

/** A block without what does not matter: checksum, and slots of a node that are not used. */
function essence(bytes: Uint8Array): Uint8Array {
  const copy = new Block(0);
  copy.bytes.set(bytes);
  if (copy.view.getUint32(0, true) === blockChecksum(copy.bytes, NODE_KIND.salt)) {
    const count = copy.view.getUint32(16, true);
    const max = copy.view.getUint32(20, true);
    const size = copy.view.getUint32(24, true);
    copy.bytes.fill(0, 32 + 8 * count, 32 + 8 * max);
    copy.bytes.fill(0, 32 + 8 * max + size * count);
  }
  copy.bytes.fill(0, 0, 4);
  return copy.bytes;
}

describeWithKernel(
  "metadata of dm-thin",
  () => {
    const folder = mkdtempSync(join(tmpdir(), "persistent-data-kernel-"));
    afterAll(() => rmSync(folder, { recursive: true, force: true }));
    const disk = (name: string, bytes: number): string => {
      const path = join(folder, name);
      writeFileSync(path, "");
      truncateSync(path, bytes);
      return path;
    };

    test("the same operations leave the same blocks; ours is taken by the tools and the kernel, and the reverse", async () => {
      const operations = history(4);
      const theirs = disk("theirs", METADATA_BLOCKS * BLOCK_BYTES);
      const ours = disk("ours", METADATA_BLOCKS * BLOCK_BYTES);
      const sectors = DATA_BLOCKS * 128;
      const device = await FileDevice.open({ path: ours });
      const pool = await TestPool.create(device, { dataBlocks: DATA_BLOCKS });
      await play(pool, operations);
      await device.close();
      const copy = await FileDevice.open({ path: ours, readOnly: true });
      const before = MemoryDevice.from(await whole(copy));
      await copy.close();

      const run = await runGuest({
        disks: [theirs, disk("data1", DATA_BLOCKS * 65536), ours, disk("data2", DATA_BLOCKS * 65536)],
        timeoutSeconds: 600,
        collect: ["theirs.xml", "ours.xml"],
        script: `

modprobe dm-thin-pool
dmsetup create pool --table "0 ${sectors} thin-pool /dev/vda /dev/vdb 128 0 1 no_discard_passdown" || exit 1
${guestLines(operations)}
for t in t1 t2 t4 t5 t6 t7 t8; do dmsetup remove $t; done; dmsetup remove pool || exit 1
thin_check -q /dev/vda || exit 2
thin_check -q /dev/vdc || exit 3
thin_dump /dev/vda > theirs.xml || exit 4
thin_dump /dev/vdc > ours.xml || exit 5
dmsetup create pool --table "0 ${sectors} thin-pool /dev/vdc /dev/vdd 128 0 1 no_discard_passdown" || exit 6
dmsetup message pool 0 "create_snap 9 2" || exit 7
dmsetup create t9 --table "0 ${VIRTUAL_BLOCKS * 128} thin /dev/mapper/pool 9" || exit 8
dd if=/dev/zero of=/dev/mapper/t9 bs=64k count=300 oflag=direct conv=fsync 2> /dev/null || exit 9
dmsetup remove t9; dmsetup remove pool
thin_check -q /dev/vdc || exit 10
`,
      });
      expect(run.exitCode, run.output.slice(-3000)).toBe(0);
      const text = (name: string): string => Buffer.from(run.files.get(name) ?? []).toString();
      expect(text("ours.xml")).toContain("<device dev_id");
      expect(text("ours.xml")).toBe(text("theirs.xml"));

      const kernel = await FileDevice.open({ path: theirs, readOnly: true });
      const wrong: string[] = [];
      const [a, b] = [new Uint8Array(BLOCK_BYTES), new Uint8Array(BLOCK_BYTES)];
      let live = 0;
      for (let number = 0; number < METADATA_BLOCKS; number++) {
        if ((await pool.store.read(() => pool.store.count(number))) === 0) continue;
        live++;
        await before.read(number, a);
        await kernel.read(number, b);
        if (Buffer.compare(essence(a), essence(b)) !== 0) wrong.push(`block ${number}`);
      }
      await kernel.close();
      expect(live).toBeGreaterThan(40);
      const overflowing = await pool.store.read(function* () {
        let data = 0;
        for (let number = 0; number < DATA_BLOCKS; number++) if ((yield* pool.data.count(number)) > 2) data++;
        let metadata = 0;
        for (let number = 0; number < METADATA_BLOCKS; number++) if ((yield* pool.store.count(number)) > 2) metadata++;
        return { data, metadata };
      });
      expect(overflowing.data).toBeGreaterThan(1000);
      expect(overflowing.metadata).toBeGreaterThan(0);
      expect(wrong).toEqual([]);

      const after = await FileDevice.open({ path: ours });
      const again = await TestPool.open(after);
      await again.store.write(function* () {
        const details = yield* again.detailsOf(9);
        const root = (yield* again.top.lookup(again.mappingRoot, [9])) as number;
        expect((yield* again.bottom.range(root)).length).toBe(details.mappedBlocks);
        expect(yield* again.bottom.lookup(root, [299])).toBeDefined();
        yield* again.remove(1);
        yield* again.remove(2);
      });
      await again.commit();
      await after.close();
      const last = await runGuest({ disks: [ours], script: "thin_check -q /dev/vda" });
      expect(last.exitCode, last.output).toBe(0);
    });
  },
  { describe, test },
);

async function whole(device: FileDevice): Promise<Uint8Array> {
  const bytes = new Uint8Array(METADATA_BLOCKS * BLOCK_BYTES);
  await device.read(0, bytes);
  return bytes;
}
