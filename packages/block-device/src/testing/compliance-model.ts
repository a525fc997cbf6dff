/** The part of the compliance suite that compares a device with an array in memory. */
import { equalBytes, Random } from "@vdo/base";
import { type BlockDevice, writeVector } from "../block-device.ts";
import { zeroBlocks } from "../slice-device.ts";
import type { DeviceTest } from "./compliance.ts";
import { check, pattern, readBack } from "./compliance-support.ts";

const SEEDS = [1, 2];

export function modelTests(deviceTest: DeviceTest, operations: number): void {
  for (const seed of SEEDS) {
    deviceTest(`random operations agree with a model (seed ${seed})`, (device) => compare(device, seed, operations));
  }
}

/** Groups of operations on distinct block ranges run at once; groups follow each other. */
async function compare(device: BlockDevice, seed: number, operations: number): Promise<void> {
  const random = new Random(seed);
  const { blockSize } = device;
  const window = Math.min(device.blockCount, 256);
  const model = pattern(device, window, seed);
  await device.write(0, model);
  const lanes = 8;
  const laneBlocks = Math.floor(window / lanes);
  for (let done = 0; done < operations; done += lanes) {
    const acts: Promise<void>[] = [];
    for (let lane = 0; lane < lanes; lane++) {
      const count = 1 + random.below(laneBlocks);
      const start = lane * laneBlocks + random.below(laneBlocks - count + 1);
      acts.push(operate(device, { random, model, start, count }));
    }
    await Promise.all(acts);
    if (random.chance(0.2)) await device.flush();
  }
  const final = await readBack(device, 0, window);
  for (let block = 0; block < window; block++) {
    const [from, to] = [block * blockSize, (block + 1) * blockSize];
    check(equalBytes(final.subarray(from, to), model.subarray(from, to)), `seed ${seed}: block ${block} at the end`);
  }
}

async function operate(
  device: BlockDevice,
  { random, model, start, count }: { random: Random; model: Uint8Array; start: number; count: number },
): Promise<void> {
  const { blockSize } = device;
  const expected = model.subarray(start * blockSize, (start + count) * blockSize);
  const kind = random.pick(["write", "write", "vector", "zero", "discard", "read", "read"] as const);
  const data = pattern(device, count, random.next32());
  const options = { fua: random.chance(0.1) };
  switch (kind) {
    case "write":
      await device.write(start, data, options);
      expected.set(data);
      break;
    case "vector": {
      const cut = random.below(count + 1) * blockSize;
      const parts = [data.subarray(0, cut), data.subarray(cut)].filter((part) => part.length > 0);
      await writeVector(device, start, parts, options);
      expected.set(data);
      break;
    }
    case "zero":
      await zeroBlocks(device, start, count, { ...options, mayUnmap: random.chance(0.5) });
      expected.fill(0);
      break;
    case "discard":
      if (device.discard === undefined) return;
      await device.discard(start, count, options);
      // What discarded blocks read as is the device's choice: the model takes it over.
      expected.set(await readBack(device, start, count));
      break;
    case "read":
      check(equalBytes(await readBack(device, start, count), expected), `blocks ${start} to ${start + count - 1}`);
  }
}
