import { isVdoError, Random } from "@vdo/base";
import { MemoryDevice } from "@vdo/block-device";
import { describe, expect, test } from "vitest";
import { check, dump, PoolReader, repair, ThinPool } from "../src/index.ts";
import { Surgery } from "./support/damage.ts";
import { lifeMetadata, lifeXml, textOf } from "./support/golden.ts";

const blank = (): MemoryDevice => new MemoryDevice({ blockCount: 2048 });
const without = (text: string): string => text.replace(/ transaction="\d+"| metadata_snap="\d+"/, "");

async function repaired(image: Uint8Array, options = {}): Promise<{ xml: string; output: MemoryDevice }> {
  const output = blank();
  await repair(MemoryDevice.from(image), output, options);
  expect((await check(output)).problems).toEqual([]);
  return { xml: await textOf(dump(output)), output };
}

describe("a repair that searches", () => {
  test("finds the devices again behind a superblock of zeros; the size of data blocks is in the metadata snapshot", async () => {
    const image = lifeMetadata().fill(0, 0, 4096);
    const output = blank();
    const report = await repair(MemoryDevice.from(image), output, { dataBlocks: 5120 });
    expect(report.lost).toEqual([]);
    expect(report.devices).toEqual([0, 1, 2, 3, 4, 5, 10, 11]);
    expect((await check(output)).problems).toEqual([]);
    const [head, ...rest] = (await textOf(dump(output))).split("\n");
    expect(head).toContain('data_block_size="128" nr_data_blocks="5120"');
    // The last thing that was done there, a discard, left fewer mappings than the state before it: which of two is newer, their
    // mappings do not tell, and the one with more of the newest is taken, as by thin_repair.
    const undiscarded = lifeXml
      .replace('dev_id="10" mapped_blocks="1050"', 'dev_id="10" mapped_blocks="1100"')
      .replace(
        /origin_begin="0" data_begin="9" length="100" time="5"\/>\n.*data_begin="159".*/,
        'origin_begin="0" data_begin="9" length="1100" time="5"/>',
      );
    const [, ...expected] = undiscarded.split("\n");
    expect(rest).toEqual(expected);
  });

  test("asks for the size of data blocks where nothing tells it", async () => {
    const metadata = new MemoryDevice({ blockCount: 256 });
    const data = new MemoryDevice({ blockCount: 1024 });
    const pool = await ThinPool.open({ metadata, data, blockSectors: 256 });
    await pool.createThin(3);
    const volume = await pool.volume({ id: 3, sectors: 4096 });
    await volume.write(0, new Uint8Array(65_536).fill(1));
    await volume.close();
    await pool.createSnapshot(4, 3);
    await pool.close();
    await metadata.write(0, new Uint8Array(4096));
    await expect(repair(metadata, blank())).rejects.toThrow(
      /^data block size needs to be provided due to corruption in the superblock/,
    );
    const output = blank();
    const { devices } = await repair(metadata, output, { dataBlockSize: 256 });
    expect(devices).toEqual([3, 4]);
    expect((await check(output)).problems).toEqual([]);
    const again = await ThinPool.open({ metadata: output, data, blockSectors: 256 });
    const byte = new Uint8Array(4096);
    await (await again.volume({ id: 4, sectors: 4096 })).read(15, byte);
    expect(byte[0]).toBe(1);
    expect((await again.figures()).transactionId).toBe(1n);
    await again.close();
  });

  test("goes back where the top level is lost, and says to which roots", async () => {
    const on = await Surgery.begin();
    on.flip(on.at.mappings);
    const output = blank();
    const report = await repair(MemoryDevice.from(on.image), output);
    expect(report.devices.length).toBeGreaterThan(6);
    expect(report.earlier?.mappingRoot).not.toBe(on.at.mappings);
    expect((await check(output)).problems).toEqual([]);
    expect(await textOf(dump(output))).toContain('data_block_size="128" nr_data_blocks="5120"');
  });

  test("chooses a whole earlier state when told so, where the present one has lost a leaf", async () => {
    const on = await Surgery.begin();
    on.flip(on.at.leaves[3] as number);
    const { xml } = await repaired(on.image, { roots: "earlier" });
    expect(xml).not.toContain('dev_id="11" mapped_blocks="1100"');
    const present = await repaired(on.image, { roots: "present" });
    expect(present.xml).toContain('dev_id="11"');
  });

  test("of a pool that is whole finds the present state", async () => {
    const { xml } = await repaired(lifeMetadata(), { roots: "earlier" });
    expect(without(xml)).toBe(without(lifeXml));
  });

  test("takes the newest of many states, whatever was deleted or written before", async () => {
    const metadata = new MemoryDevice({ blockCount: 1024 });
    const data = new MemoryDevice({ blockCount: 16 * 512 });
    const pool = await ThinPool.open({ metadata, data, blockSectors: 128 });
    const random = new Random(3);
    await pool.createThin(0);
    for (let id = 1; id < 20; id++) {
      const volume = await pool.volume({ id: 0, sectors: 128 * 300 });
      await volume.write(random.below(4700), new Uint8Array(4096 * 40).fill(id));
      await volume.close();
      await pool.createSnapshot(id, 0);
    }
    const volume = await pool.volume({ id: 0, sectors: 128 * 300 });
    await volume.write(0, new Uint8Array(4096 * 100).fill(99));
    await volume.close();
    await pool.close();
    const wanted = await textOf(dump(metadata));
    await metadata.write(0, new Uint8Array(4096));
    const output = blank();
    await repair(metadata, output, { dataBlockSize: 128, dataBlocks: 512 });
    expect(without(await textOf(dump(output)))).toBe(without(wanted));
  });

  test("of whatever is damaged gives clean metadata or says that nothing is left", async () => {
    const pool = await PoolReader.open(MemoryDevice.from(lifeMetadata()));
    const nodes = [0, pool.view.mappingRoot, pool.view.detailsRoot, ...(await pool.roots()).values()];
    for (let seed = 1; seed <= 25; seed++) {
      const random = new Random(seed);
      const image = lifeMetadata();
      for (let i = 0; i < 1 + random.below(6); i++) {
        const at = (random.chance(0.7) ? random.pick(nodes) : random.below(250)) * 4096 + random.below(4096);
        image[at] = (image[at] as number) ^ (1 << random.below(8));
      }
      const output = blank();
      try {
        await repair(MemoryDevice.from(image), output, { dataBlockSize: 128 });
        expect((await check(output)).problems, `seed ${seed}`).toEqual([]);
      } catch (error) {
        if (!isVdoError(error, "VDO_CORRUPT")) throw error;
      }
    }
  });
});
