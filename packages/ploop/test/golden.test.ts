import { equalBytes, firstDifference } from "@vdo/base";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { PloopDevice } from "../src/device/ploop-device.ts";
import { NodeDirectory } from "../src/file/node-directory.ts";
import { chainOf, DESCRIPTOR_NAME, parseDescriptor } from "../src/format/descriptor.ts";
import { checkImage } from "../src/image/check.ts";
import { goldenContent, unpackGolden } from "./support/golden.ts";

describe("the golden stack", () => {
  let directory: NodeDirectory;
  let remove: () => Promise<void>;
  beforeAll(async () => {
    const golden = await unpackGolden();
    directory = new NodeDirectory(golden.folder);
    remove = golden.remove;
  });
  afterAll(() => remove());

  async function openStack(readOnly: boolean): Promise<PloopDevice> {
    const descriptor = parseDescriptor(await directory.readText(DESCRIPTOR_NAME), DESCRIPTOR_NAME);
    const chain = chainOf(descriptor, descriptor.topGuid, DESCRIPTOR_NAME);
    const deltas = await Promise.all(
      chain.map(async ({ file }, level) => ({
        file: await directory.open(file, { readOnly: readOnly || level < chain.length - 1 }),
      })),
    );
    return PloopDevice.open({ deltas });
  }

  async function contentOf(device: PloopDevice): Promise<Uint8Array> {
    const content = new Uint8Array(device.blockCount * device.blockSize);
    await device.read(0, content);
    return content;
  }

  test("reads as the original tools left it", async () => {
    const device = await openStack(true);
    expect(firstDifference(await contentOf(device), goldenContent())).toBe(-1);
    await device.close();
  });

  test("takes writes in the top delta only, and is clean afterwards", async () => {
    const before = new Map<string, Uint8Array>();
    const descriptor = parseDescriptor(await directory.readText(DESCRIPTOR_NAME), DESCRIPTOR_NAME);
    for (const { file } of descriptor.images.slice(0, 2)) {
      const opened = await directory.open(file, { readOnly: true });
      const bytes = new Uint8Array(opened.length);
      await opened.read(0, bytes);
      before.set(file, bytes);
      await opened.close();
    }
    const device = await openStack(false);
    const expected = goldenContent();
    // Over the edge of clusters that the base and nobody holds; and into one of the top.
    for (const [at, length] of [
      [(3 << 20) - 700 * 512, 1400 * 512],
      [20 << 20, 512],
      [11 << 20, 4096],
    ] as const) {
      await device.write(at / 512, new Uint8Array(length).fill(0x77));
      expected.fill(0x77, at, at + length);
    }
    await device.close();
    const again = await openStack(true);
    expect(firstDifference(await contentOf(again), expected)).toBe(-1);
    await again.close();
    for (const { file } of descriptor.images) {
      const opened = await directory.open(file, { readOnly: true });
      expect((await checkImage(opened, { force: true })).result).toBe("clean");
      const bytes = new Uint8Array(opened.length);
      await opened.read(0, bytes);
      const old = before.get(file);
      if (old !== undefined) expect(equalBytes(bytes, old)).toBe(true);
      await opened.close();
    }
  });
});
