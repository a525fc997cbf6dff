/** A volume that is used while its slabs are being recovered. */
import { Random } from "@vdo/base";
import { type BlockDevice, MemoryDevice } from "@vdo/block-device";
import { FaultyDevice } from "@vdo/block-device/testing";
import { describe, expect, test } from "vitest";
import { recoveryJournalHeader } from "../../src/format/index.ts";
import { readVolumeInfo, VdoVolume, type VolumeEvent, type VolumeOptions } from "../../src/index.ts";
import { audit } from "../support/audit.ts";
import { copyDevice } from "../support/crash-copy.ts";
import { journalImage, OPTIONS, PER_BLOCK, putEntry } from "../support/journal-image.ts";
import { scrubbed } from "../support/recovered.ts";
import { type Regions, regionsOf } from "../support/regions.ts";
import { allSettle, settles } from "../support/settles.ts";
import { formatTiny, type TinyOptions, tinyBlocks } from "../support/tiny-volume.ts";
import { workloadBlock } from "../support/workload-block.ts";

const TINY: TinyOptions = {
  slabBits: 10,
  slabs: 4,
  recoveryJournalBlocks: 64,
  slabJournalBlocks: 8,
  logicalBlocks: 20_000,
};
/** Slab journals stay short, so that a start after the crash need not recover more than one slab. */
const QUIET: VolumeOptions = { ...OPTIONS, compression: false };

/** Reads of the slabs' metadata wait until they are let go; everything else passes. */
class HoldingDevice implements BlockDevice {
  readonly blockSize = 4096;
  readonly blockCount: number;
  readonly #base: BlockDevice;
  readonly #isHeld: (block: number) => boolean;
  #waiting: (() => void)[] = [];
  /** First block of what is read and held. */
  held = -1;
  #isOpen = false;

  constructor(base: BlockDevice, isHeld: (block: number) => boolean) {
    this.#base = base;
    this.#isHeld = isHeld;
    this.blockCount = base.blockCount;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  release(): void {
    this.#isOpen = true;
    for (const go of this.#waiting.splice(0)) go();
  }

  async read(start: number, target: Uint8Array): Promise<void> {
    if (!this.#isOpen && this.#isHeld(start)) {
      this.held = start;
      await new Promise<void>((go) => void this.#waiting.push(go));
    }
    await this.#base.read(start, target);
  }

  write(start: number, source: Uint8Array): Promise<void> {
    return this.#base.write(start, source);
  }

  writeZeroes(start: number, count: number): Promise<void> {
    return (this.#base as MemoryDevice).writeZeroes(start, count);
  }

  flush(): Promise<void> {
    return this.#base.flush();
  }

  async close(): Promise<void> {}
}

/** A crash with `used` unique blocks from logical block 0 on, in several slabs. */
async function crash(used: number): Promise<{ image: MemoryDevice; regions: Regions }> {
  const device = new MemoryDevice({ blockCount: tinyBlocks(TINY) });
  await formatTiny(device, TINY);
  const volume = await VdoVolume.open(device, QUIET);
  for (let at = 0; at < used; at += 64) {
    await Promise.all(Array.from({ length: Math.min(64, used - at) }, (_, i) => volume.write(at + i, content(at + i))));
  }
  await volume.flush();
  const image = await copyDevice(device);
  await volume.close();
  return { image, regions: await regionsOf(image) };
}

const content = (number: number): Uint8Array => workloadBlock(number + 1);

async function expectContent(volume: VdoVolume, lbn: number, expected: Uint8Array | null): Promise<void> {
  const block = new Uint8Array(4096);
  await volume.read(lbn, block);
  expect(Buffer.compare(block, expected ?? new Uint8Array(4096)), `logical block ${lbn}`).toBe(0);
}

/** Logical blocks below `count` whose block is not in the slab that `device` holds: changes there wait, as they must. */
async function notHeld(image: MemoryDevice, regions: Regions, device: HoldingDevice, count: number): Promise<number[]> {
  const whole = await copyDevice(image);
  const volume = await VdoVolume.open(whole, QUIET);
  await scrubbed(volume);
  await volume.close();
  const { mappings } = await audit(whole);
  while (device.waiting === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  const slab = Array.from({ length: TINY.slabs }, (_, n) => regions.slab(n)).find(
    ({ journal }) => journal.start === device.held,
  );
  const start = slab?.data.start ?? 0;
  const isHeld = (pbn: number): boolean => pbn >= start && pbn < start + 1024;
  return [...mappings].flatMap(([lbn, [pbn]]) => (lbn < count && !isHeld(pbn) ? [lbn] : []));
}

/** Opens `image` with the recovery of all slabs but the first held back. */
async function openHeld(image: MemoryDevice, regions: Regions, onChange?: (event: VolumeEvent) => void) {
  // The whole journal of a slab is read at once when it is recovered: from its first block on.
  const starts = new Set(Array.from({ length: TINY.slabs }, (_, n) => regions.slab(n).journal.start));
  let first = -1;
  const device = new HoldingDevice(image, (block) => {
    if (!starts.has(block)) return false;
    if (first < 0) first = block;
    return block !== first;
  });
  const volume = await settles(
    "open",
    VdoVolume.open(device, { ...QUIET, ...(onChange === undefined ? {} : { onChange }) }),
  );
  return { device, volume };
}

describe("while slabs are being recovered", () => {
  test("blocks are read, written, overwritten and trimmed, and every count is exact in the end", async () => {
    const { image, regions } = await crash(1800);
    const events: VolumeEvent[] = [];
    const { device, volume } = await openHeld(image, regions, (event) => void events.push(event));
    expect(volume.status()).toMatchObject({ mode: "recovering", recovering: true });
    expect(volume.statistics().recoveryPercentage).toBeLessThan(100);
    const random = new Random(1);
    const free = await notHeld(image, regions, device, 1800);
    expect(free.length).toBeGreaterThan(700);
    const expected = new Map<number, number | null>(Array.from({ length: 1800 }, (_, lbn) => [lbn, lbn]));
    for (const lbn of [0, 500, 1000, 1500, 1799]) await expectContent(volume, lbn, content(lbn));
    for (let i = 0; i < 150; i++) {
      const lbn = random.chance(0.1) ? 1800 + random.below(100) : random.pick(free);
      const dice = random.below(3);
      if (dice === 0) {
        await settles("a trim", volume.discard(lbn, 1));
        expected.set(lbn, null);
      } else {
        // A copy of a block elsewhere, or a new one.
        const number = dice === 1 ? random.below(1800) : 10_000 + i;
        await settles("a write", volume.write(lbn, content(number)));
        expected.set(lbn, number);
      }
    }
    await settles("a flush", volume.flush());
    expect(volume.status().recovering).toBe(true);
    expect(device.waiting).toBeGreaterThan(0);
    for (const [lbn, number] of expected) await expectContent(volume, lbn, number === null ? null : content(number));
    device.release();
    await scrubbed(volume);
    expect(volume.status()).toMatchObject({ mode: "normal", recovering: false });
    for (const [lbn, number] of expected) await expectContent(volume, lbn, number === null ? null : content(number));
    await volume.close();
    expect((await audit(image)).problems).toEqual([]);
    const slabs = events.flatMap((event) => (event.type === "recovery" && event.phase === "slabs" ? [event.done] : []));
    expect(slabs).toEqual([...slabs].sort((a, b) => a - b));
    expect(events.at(-1)).toMatchObject({ type: "recovery", phase: "slabs", done: TINY.slabs, of: TINY.slabs });
  });

  test("a crash loses nothing, and the next recovery goes on", async () => {
    const { image, regions } = await crash(1500);
    const { device, volume } = await openHeld(image, regions);
    const changed = (await notHeld(image, regions, device, 1500)).filter((lbn) => lbn % 11 === 0);
    for (const lbn of changed) await volume.write(lbn, content(5000 + lbn));
    await volume.flush();
    const again = await copyDevice(image);
    device.release();
    await volume.close();
    const next = await VdoVolume.open(again, QUIET);
    for (let lbn = 0; lbn < 1500; lbn++) {
      await expectContent(next, lbn, content(changed.includes(lbn) ? 5000 + lbn : lbn));
    }
    await scrubbed(next);
    await next.close();
    expect((await audit(again)).problems).toEqual([]);
  });

  test("a write that finds no space waits for the next slab, and only then the volume is full", async () => {
    const { image, regions } = await crash(3000);
    const { device, volume } = await openHeld(image, regions);
    const room = TINY.slabs * regions.slab(0).data.count;
    let settled = 0;
    const writes = Array.from({ length: room }, (_, i) =>
      volume.write(4000 + i, content(20_000 + i)).finally(() => {
        settled++;
      }),
    );
    const done = allSettle("writes into a full volume", writes, 20_000);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(settled).toBeLessThan(room);
    expect(volume.status().recovering).toBe(true);
    device.release();
    const outcomes = await done;
    const failed = outcomes.flatMap((one) =>
      one.status === "rejected" ? [(one.reason as { code: string }).code] : [],
    );
    expect(new Set(failed)).toEqual(new Set(["VDO_NO_SPACE"]));
    expect(volume.status().recovering).toBe(false);
    const statistics = volume.statistics();
    expect(statistics.dataBlocksUsed + statistics.overheadBlocksUsed).toBe(statistics.physicalBlocks);
    for (const [i, { status }] of outcomes.entries()) {
      await expectContent(volume, 4000 + i, status === "fulfilled" ? content(20_000 + i) : null);
    }
    await volume.discard(0, 100);
    await volume.flush();
    await volume.write(4000 + room, content(1));
    await volume.close();
    expect((await audit(image)).problems).toEqual([]);
  });

  test("a stop leaves the rest to the next start", async () => {
    const { image, regions } = await crash(2500);
    const { device, volume } = await openHeld(image, regions);
    const closed = volume.close();
    device.release();
    await settles("close", closed);
    expect((await readVolumeInfo(image)).state).toBe("RECOVERING");
    const next = await VdoVolume.open(image, QUIET);
    expect(next.status().mode).toBe("recovering");
    await scrubbed(next);
    for (let lbn = 0; lbn < 2500; lbn += 7) await expectContent(next, lbn, content(lbn));
    await next.close();
    expect((await readVolumeInfo(image)).state).toBe("CLEAN");
    expect((await audit(image)).problems).toEqual([]);
  });

  test("suspending and resuming does not lose the rest", async () => {
    const { image, regions } = await crash(2500);
    const { device, volume } = await openHeld(image, regions);
    const suspended = volume.suspend({ save: true });
    device.release();
    await settles("suspend", suspended);
    expect((await readVolumeInfo(image)).state).toBe("RECOVERING");
    await volume.resume();
    await volume.write(3000, content(3000));
    await scrubbed(volume);
    await volume.close();
    expect((await audit(image)).problems).toEqual([]);
  });

  test("an error of the storage ends the writes that wait, and makes the volume read-only", async () => {
    const { image, regions } = await crash(3000);
    const faulty = new FaultyDevice(image);
    const starts = Array.from({ length: TINY.slabs }, (_, n) => regions.slab(n).journal.start);
    let first = -1;
    const device = new HoldingDevice(faulty, (block) => {
      if (!starts.includes(block)) return false;
      if (first < 0) first = block;
      return block !== first;
    });
    const volume = await VdoVolume.open(device, QUIET);
    const writes = Array.from({ length: 2000 }, (_, i) => volume.write(4000 + i, content(20_000 + i)));
    const done = allSettle("writes when recovery fails", writes, 10_000);
    await new Promise((resolve) => setTimeout(resolve, 100));
    for (const start of starts) faulty.add({ operation: "read", blocks: { start, count: 8 } });
    device.release();
    const codes = (await done).flatMap((one) =>
      one.status === "rejected" ? [(one.reason as { code: string }).code] : [],
    );
    expect(codes.length).toBeGreaterThan(0);
    expect(codes.every((code) => code === "VDO_READ_ONLY" || code === "VDO_IO")).toBe(true);
    expect(volume.status().mode).toBe("read-only");
    for (let lbn = 0; lbn < 3000; lbn += 11) await expectContent(volume, lbn, content(lbn));
    await settles(
      "close",
      volume.close().catch(() => undefined),
    );
    expect((await readVolumeInfo(image)).state).toBe("READ_ONLY_MODE");
  });
});

test("a recovered volume goes around both kinds of journals", async () => {
  const { image } = await crash(1000);
  const volume = await VdoVolume.open(image, QUIET);
  const random = new Random(4);
  const expected = new Map<number, number>();
  for (let round = 0; round < 80; round++) {
    await Promise.all(
      Array.from({ length: 200 }, (_, i) => {
        const lbn = i * 5 + random.below(5);
        const number = 30_000 + round * 200 + i;
        expected.set(lbn, number);
        return volume.write(lbn, content(number));
      }),
    );
  }
  const { journal, slabJournal } = volume.statistics();
  expect(journal.blocks.committed).toBeGreaterThan(64);
  expect(slabJournal.blocksWritten).toBeGreaterThan(16);
  for (const [lbn, number] of expected) await expectContent(volume, lbn, content(number));
  await volume.close();
  expect((await audit(image)).problems).toEqual([]);
});

describe("a start after a crash", () => {
  /** A journal in which one logical block goes to and fro between two blocks of slab 0. */
  async function toAndFro(blocks: number): Promise<{ image: MemoryDevice; regions: Regions }> {
    const { device, regions, leaf, pbnOf, edit } = await journalImage({ entries: blocks * PER_BLOCK });
    const used = regions.decoded.recoveryJournal.logicalBlocksUsed;
    for (let n = 0; n < blocks; n++) {
      await edit(n, (bytes, view) => {
        recoveryJournalHeader.at.logicalBlocksUsed.set(view, 0, n === 0 ? used : used + 1);
        for (let i = 0; i < PER_BLOCK; i++) {
          const turn = n * PER_BLOCK + i;
          const old = turn === 0 ? { oldPbn: 0, oldState: 0 } : { oldPbn: pbnOf((turn + 1) % 2), oldState: 1 };
          putEntry(bytes, i, { slotPbn: leaf, slot: 1, newPbn: pbnOf(turn % 2), ...old });
        }
      });
    }
    return { image: device, regions };
  }

  test.each([
    [4, false],
    [21, true],
  ])("with %i journal blocks for one slab waits for that slab: %s", async (blocks, waits) => {
    const { image, regions } = await toAndFro(blocks);
    const device = new HoldingDevice(image, (block) => block === regions.slab(0).journal.start);
    let isOpen = false;
    const opening = VdoVolume.open(device, QUIET).then((volume) => {
      isOpen = true;
      return volume;
    });
    const deadline = Date.now() + 3000;
    while (device.waiting === 0 && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 1));
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(device.waiting).toBe(1);
    expect(isOpen).toBe(!waits);
    device.release();
    const volume = await settles("open", opening);
    await scrubbed(volume);
    await volume.close();
    const { problems, mappings } = await audit(image);
    expect(problems).toEqual([]);
    expect(mappings.size).toBe(2);
  });
});
