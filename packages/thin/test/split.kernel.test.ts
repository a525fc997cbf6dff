/** A pool on one device, shown to the kernel by dm-linear; snapshots of a pool that the kernel wrote, sent and received. */
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FileDevice } from "@vdo/block-device";
import { describeWithKernel, runGuest } from "@vdo/oracle";
import { afterAll, describe, expect, test } from "vitest";
import { check, receive, SplitDevice, send, ThinPool } from "../src/index.ts";

const folder = mkdtempSync(join(tmpdir(), "thin-split-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const SECTORS = 32_768;
const BYTES = SECTORS * 512;

function image(name: string, bytes: number): string {
  const path = join(folder, name);
  writeFileSync(path, "");
  truncateSync(path, bytes);
  return path;
}

const digest = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

describeWithKernel(
  "a pool on one device",
  () => {
    test("grown into two extents each is one for the kernel, whose snapshots are sent on", async () => {
      const path = image("pool", 64 << 20);
      const first = await FileDevice.open({ path });
      await SplitDevice.create(first, { blockSectors: 128, metadataBytes: 1 << 20 });
      await first.close();
      truncateSync(path, 3 * 2 ** 30);
      const device = await FileDevice.open({ path });
      const split = await SplitDevice.open(device);
      expect(await split.grow()).toBe(true);
      expect(split.extents).toHaveLength(4);
      const { metadata, data } = split;
      const pool = await ThinPool.open({ metadata, data, blockSectors: 128 });
      await pool.createThin(0);
      const volume = await pool.volume({ id: 0, sectors: SECTORS });
      const content = new Uint8Array(BYTES);
      for (let at = 0; at < BYTES; at += 4096) content[at] = at / 4096;
      await volume.write(0, content);
      await volume.close();
      await pool.createSnapshot(1, 0);
      await pool.close();
      const tables = split.linearTables("/dev/vda");
      await device.close();
      const script = `dmsetup create meta --table "${tables.metadata}" || exit 1
dmsetup create data --table "${tables.data}" || exit 1
thin_check -q /dev/mapper/meta || exit 1
D=$(blockdev --getsz /dev/mapper/data)
dmsetup create pool --table "0 $D thin-pool /dev/mapper/meta /dev/mapper/data 128 0 0" || exit 1
dmsetup create t0 --table "0 ${SECTORS} thin /dev/mapper/pool 0" || exit 1
echo "sum 0 $(sha256sum < /dev/mapper/t0)"
dd if=/dev/urandom bs=64k count=20 seek=30 of=/dev/mapper/t0 oflag=direct conv=fsync 2> /dev/null || exit 1
dd if=/dev/urandom bs=4k count=5 seek=3000 of=/dev/mapper/t0 oflag=direct conv=fsync 2> /dev/null || exit 1
blkdiscard -o $((65536 * 100)) -l $((65536 * 20)) /dev/mapper/t0
dmsetup suspend t0; dmsetup message pool 0 "create_snap 2 0" || exit 1; dmsetup resume t0
echo "sum 2 $(sha256sum < /dev/mapper/t0)"
dmsetup remove t0; dmsetup remove pool; dmsetup remove data
thin_check -q /dev/mapper/meta || exit 1
dmsetup remove meta
`;
      const run = await runGuest({ script, disks: [path] });
      expect(run.exitCode, run.output).toBe(0);
      const sums = new Map([...run.output.matchAll(/^sum (\w+) (\w+)/gm)].map(([, id, sum]) => [id, sum]));
      expect(sums.get("0")).toBe(digest(content));

      const again = await FileDevice.open({ path });
      const source = await SplitDevice.open(again);
      expect((await check(source.metadata)).problems).toEqual([]);
      const backup = image("backup", BYTES);
      for (const [device2, base] of [
        [1, undefined],
        [2, 1],
      ] as const) {
        const target = await FileDevice.open({ path: backup });
        await receive({
          target,
          stream: () =>
            send({
              metadata: source.metadata,
              data: source.data,
              device: device2,
              sectors: SECTORS,
              ...(base === undefined ? {} : { base }),
            }),
        });
        await target.close();
      }
      await again.close();
      expect(digest(readFileSync(backup))).toBe(sums.get("2"));
    });
  },
  { describe, test },
);
