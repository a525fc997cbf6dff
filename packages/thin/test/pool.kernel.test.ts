/** Pools go to and fro between this program and the real dm-thin; thin_check and thin_dump judge on both sides. */
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Random } from "@vdo/base";
import { FileDevice } from "@vdo/block-device";
import { describeWithKernel, runGuest } from "@vdo/oracle";
import { afterAll, describe, expect, test } from "vitest";
import { check, dump, ThinPool, type ThinVolume } from "../src/index.ts";
import { textOf } from "./support/golden.ts";

const folder = mkdtempSync(join(tmpdir(), "thin-kernel-"));
/** 16 MiB: 256 data blocks of 64 KiB. */
const SECTORS = 32_768;
const BYTES = SECTORS * 512;

function image(name: string, bytes: number): string {
  const path = join(folder, name);
  writeFileSync(path, "");
  truncateSync(path, bytes);
  return path;
}

/** Random writes, snapshots, deletions and discards; returns what each device holds. */
async function playHistory(pool: ThinPool, random: Random, contents: Map<number, Uint8Array>): Promise<void> {
  const volumes = new Map<number, ThinVolume>();
  const open = async (id: number): Promise<void> => {
    volumes.set(id, await pool.volume({ id, sectors: SECTORS }));
  };
  if (contents.size === 0) {
    await pool.createThin(0);
    contents.set(0, new Uint8Array(BYTES));
  }
  for (const id of contents.keys()) await open(id);
  let next = Math.max(...contents.keys()) + 1;
  for (let step = 0; step < 400; step++) {
    const id = random.pick([...contents.keys()]);
    const content = contents.get(id) as Uint8Array;
    const volume = volumes.get(id) as ThinVolume;
    const dice = random.below(40);
    const start = random.below(BYTES / 4096 - 64);
    const count = 1 + random.below(dice < 4 ? 64 : 4);
    if (dice < 30) {
      const data = random.fill(new Uint8Array(count * 4096));
      await volume.write(start, data);
      content.set(data, start * 4096);
    } else if (dice < 33) {
      const first = Math.floor(start / 16);
      await volume.discard?.(first * 16, 32);
      content.fill(0, first * 65_536, (first + 2) * 65_536);
    } else if (dice < 36) await volume.flush();
    else if (dice < 38 && contents.size < 8) {
      await pool.createSnapshot(next, id);
      contents.set(next, content.slice());
      await open(next++);
    } else if (contents.size > 3) {
      await volume.close();
      await pool.delete(id);
      contents.delete(id);
      volumes.delete(id);
    }
  }
  for (const volume of volumes.values()) await volume.close();
}

const digest = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

/** Runs `act` with the pool on both images. */
async function withPool<T>(paths: { metadata: string; data: string }, act: (pool: ThinPool) => Promise<T>): Promise<T> {
  const metadata = await FileDevice.open({ path: paths.metadata });
  const data = await FileDevice.open({ path: paths.data });
  try {
    const pool = await ThinPool.open({ metadata, data, blockSectors: 128 });
    const result = await act(pool);
    await pool.close();
    return result;
  } finally {
    await metadata.close();
    await data.close();
  }
}

async function dumpOf(path: string): Promise<string> {
  const device = await FileDevice.open({ path, readOnly: true });
  const text = await textOf(dump(device));
  const { problems } = await check(device);
  await device.close();
  expect(problems).toEqual([]);
  return text;
}

const START_POOL = `D=$(( $(blockdev --getsz /dev/vdb) ))
dmsetup create pool --table "0 $D thin-pool /dev/vda /dev/vdb 128 0 0" || exit 1
`;

describeWithKernel(
  "a pool made here",
  () => {
    const paths = { metadata: image("ours.meta", 8 << 20), data: image("ours.data", 256 << 20) };
    const contents = new Map<number, Uint8Array>();
    afterAll(() => rmSync(folder, { recursive: true, force: true }));

    test("is clean for thin_check, opens in dm-thin with its content, and is written on there", async () => {
      await withPool(paths, (pool) => playHistory(pool, new Random(4), contents));
      const ours = await dumpOf(paths.metadata);
      const ids = [...contents.keys()];
      const victim = ids[0] as number;
      const script = `thin_check -q /dev/vda || exit 1
thin_dump /dev/vda > before.xml
${START_POOL}
for i in ${ids.join(" ")}; do
  dmsetup create t$i --table "0 ${SECTORS} thin /dev/mapper/pool $i" || exit 1
  echo "sum $i $(sha256sum < /dev/mapper/t$i)"
done
dmsetup suspend t${victim}; dmsetup message pool 0 "create_snap 1000 ${victim}" || exit 1; dmsetup resume t${victim}
dd if=/dev/zero bs=4k count=100 seek=500 of=/dev/mapper/t${victim} oflag=direct conv=fsync 2> /dev/null || exit 1
blkdiscard -o $((65536 * 50)) -l $((65536 * 20)) /dev/mapper/t${victim}
dmsetup message pool 0 "set_transaction_id 0 9"
dmsetup create t1000 --table "0 ${SECTORS} thin /dev/mapper/pool 1000" || exit 1
echo "sum 1000 $(sha256sum < /dev/mapper/t1000)"
echo "sum after $(sha256sum < /dev/mapper/t${victim})"
for i in ${ids.join(" ")} 1000; do dmsetup remove t$i; done
dmsetup status pool
dmsetup remove pool
thin_check -q /dev/vda || exit 1
thin_dump /dev/vda > after.xml
`;
      const collect = ["before.xml", "after.xml"];
      const run = await runGuest({ script, disks: [paths.metadata, paths.data], collect });
      expect(run.exitCode, run.output).toBe(0);
      expect(Buffer.from(run.files.get("before.xml") as Uint8Array).toString()).toBe(ours);
      const sums = new Map([...run.output.matchAll(/^sum (\w+) (\w+)/gm)].map(([, id, sum]) => [id, sum]));
      for (const [id, content] of contents) expect(sums.get(String(id)), `device ${id}`).toBe(digest(content));
      const content = contents.get(victim) as Uint8Array;
      expect(sums.get("1000")).toBe(digest(content));
      contents.set(1000, content.slice());
      content.fill(0, 500 * 4096, 600 * 4096);
      content.fill(0, 50 * 65_536, 70 * 65_536);
      expect(sums.get("after")).toBe(digest(content));
      expect(await dumpOf(paths.metadata)).toBe(Buffer.from(run.files.get("after.xml") as Uint8Array).toString());
    });

    test("goes on here after the kernel wrote to it, and is clean for thin_check again", async () => {
      await withPool(paths, async (pool) => {
        expect((await pool.figures()).transactionId).toBe(9n);
        for (const [id, content] of contents) {
          const volume = await pool.volume({ id, sectors: SECTORS });
          const bytes = new Uint8Array(BYTES);
          await volume.read(0, bytes);
          expect(digest(bytes), `device ${id}`).toBe(digest(content));
          await volume.close();
        }
        await playHistory(pool, new Random(5), contents);
        await pool.reserveMetadataSnapshot();
      });
      const ours = await dumpOf(paths.metadata);
      const script = "thin_check /dev/vda || exit 1\nthin_dump /dev/vda > dump.xml\n";
      const run = await runGuest({ script, disks: [paths.metadata, paths.data], collect: ["dump.xml"] });
      expect(run.exitCode, run.output).toBe(0);
      expect(Buffer.from(run.files.get("dump.xml") as Uint8Array).toString()).toBe(ours);
    });
  },
  { describe, test },
);
