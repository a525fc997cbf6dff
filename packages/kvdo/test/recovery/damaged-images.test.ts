/**
 * Clean and dirty volumes with metadata damaged at random, through everything that reads it: a start, the use of what came up,
 * the audit, a start that writes nothing, and the rebuild. Whatever is found ends with an answer; nothing hangs or fails
 * otherwise than by an error with a code; and after a rebuild the metadata agrees with itself.
 *
 * 60 images, in CI 500; `VDO_DAMAGED_IMAGES=10000` runs as many as it says.
 */
import { isVdoError, Random } from "@vdo/base";
import type { MemoryDevice } from "@vdo/block-device";
import { RecordingDevice } from "@vdo/block-device/testing";
import { expect, test } from "vitest";
import { auditVolume, forceRebuild, setReadOnly, VdoVolume } from "../../src/index.ts";
import { copyDevice, editBlock } from "../support/crash-copy.ts";
import { journalImage, OPTIONS } from "../support/journal-image.ts";
import { pagesOf, regionsOf } from "../support/regions.ts";
import { settles } from "../support/settles.ts";
import { workloadBlock } from "../support/workload-block.ts";

const IMAGES = Number(process.env["VDO_DAMAGED_IMAGES"] ?? (process.env["CI"] === "true" ? 500 : 60));
/** Images of one test. */
const PER_TEST = 20;

let bases: Promise<MemoryDevice[]> | undefined;

/** A dirty volume with a journal to be replayed, the same recovered and used, and that one cut off while in use. */
function sound(): Promise<MemoryDevice[]> {
  bases ??= (async () => {
    const { device: dirty } = await journalImage({ entries: 500 });
    const used = await copyDevice(dirty);
    const volume = await VdoVolume.open(used, OPTIONS);
    for (let lbn = 0; lbn < 700; lbn++) await volume.write(lbn * 3, workloadBlock(lbn, lbn % 3 === 0 ? 700 : 4096));
    await volume.flush();
    const cut = await copyDevice(used);
    await volume.close();
    return [dirty, used, cut];
  })();
  return bases;
}

/** Changes bits, bytes, sectors or whole blocks of the metadata. */
async function damage(device: MemoryDevice, random: Random): Promise<void> {
  const regions = await regionsOf(device);
  const pages = (await pagesOf(device, 0)).filter((page) => page > 0);
  const { counts, journal, data } = regions.slab(random.below(3));
  const parts = [regions.roots, regions.journal, regions.summary, counts, journal, { start: data.start, count: 4 }];
  const ranges = [...parts, ...pages.map((start) => ({ start, count: 1 }))];
  for (let i = 0; i <= random.below(5); i++) {
    const part = random.pick(ranges);
    await editBlock(device, part.start + random.below(Math.min(part.count, 8)), (bytes) => {
      const kind = random.below(5);
      const at = random.below(4096);
      if (kind === 0) bytes[at] = (bytes[at] as number) ^ (1 << random.below(8));
      else if (kind === 1) random.fill(bytes.subarray(at, at + 1 + random.below(16)));
      else if (kind === 2) bytes.fill(0, at & ~511, (at & ~511) + 512);
      else if (kind === 3) random.fill(bytes);
      else bytes.fill(random.pick([0, 255]));
    });
  }
}

/** The outcome of `work`, or its error, which must be one with a code. */
async function answered<T>(what: string, work: Promise<T>): Promise<T | null> {
  try {
    return await settles(what, work, 10_000);
  } catch (error) {
    expect(isVdoError(error), `${what}: ${(error as Error).stack}`).toBe(true);
    return null;
  }
}

async function use(what: string, volume: VdoVolume, random: Random): Promise<void> {
  const block = new Uint8Array(4096);
  const works: Promise<unknown>[] = [];
  for (let i = 0; i < 12; i++) {
    const lbn = random.below(2100);
    works.push(answered(`${what}: read`, volume.read(lbn, block.slice())));
    if (i % 3 === 0) works.push(answered(`${what}: write`, volume.write(lbn, workloadBlock(90_000 + i))));
    if (i % 4 === 0) works.push(answered(`${what}: discard`, volume.discard(lbn, 1)));
  }
  await Promise.all(works);
  await answered(`${what}: flush`, volume.flush());
  await answered(`${what}: close`, volume.close());
}

async function judge(seed: number): Promise<void> {
  const random = new Random(seed);
  const base = random.pick(await sound());
  const device = await copyDevice(base);
  await damage(device, random);
  const what = `seed ${seed}`;
  await answered(`${what}: audit`, auditVolume(device));

  const recording = new RecordingDevice(device);
  const read = await answered(`${what}: read-only`, VdoVolume.open(recording, { ...OPTIONS, readOnly: true }));
  if (read !== null) await use(`${what}, read-only`, read, random);
  await answered(`${what}: plan`, forceRebuild(recording, { dryRun: true }));
  expect(
    recording.log.filter(({ kind }) => ["write", "zero", "discard"].includes(kind)),
    what,
  ).toEqual([]);

  const started = await copyDevice(device);
  const volume = await answered(`${what}: start`, VdoVolume.open(started, OPTIONS));
  if (volume !== null) await use(what, volume, random);

  for (const image of [device, started]) {
    await setReadOnly(image);
    await settles(`${what}: mark`, forceRebuild(image), 10_000);
    const rebuilt = await settles(`${what}: rebuild`, VdoVolume.open(image, OPTIONS), 10_000);
    expect(rebuilt.status().mode, what).toBe("normal");
    await use(`${what}, rebuilt`, rebuilt, random);
    expect((await auditVolume(image)).problems, `${what}: after the rebuild`).toEqual([]);
  }
}

for (let first = 0; first < IMAGES; first += PER_TEST) {
  test(`damaged images ${first} to ${first + PER_TEST - 1} are refused, opened or rebuilt`, async () => {
    for (let seed = first; seed < first + PER_TEST; seed++) await judge(seed);
  }, 600_000);
}
