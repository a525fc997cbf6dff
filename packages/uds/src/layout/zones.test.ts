/** Saves of 1 to 16 zones are loaded; the kernel writes as many as it has threads. */
import { systemClock } from "@vdo/base";
import type { BlockDevice } from "@vdo/block-device";
import { describe, expect, test } from "vitest";
import { deviceFor, randomRecords, SPARSE, TINY } from "../../test/support/devices.ts";
import { IndexEngine } from "../engine/index-engine.ts";
import { type IndexConfig, indexGeometry, UdsIndex } from "../index.ts";
import { IndexStorage } from "./index-storage.ts";
import { IndexStore } from "./index-store.ts";
import { saveOpenChapter } from "./open-chapter-save.ts";
import { encodeSave, planSave } from "./save-slot.ts";
import { saveVolumeIndex } from "./volume-index-save.ts";

/** Saves the index on `device` once more, in slot 1, as `zones` zones would. */
async function saveInZones(config: IndexConfig, device: BlockDevice, zones: number): Promise<void> {
  const geometry = indexGeometry(config);
  const storage = new IndexStorage(device, 0);
  const store = await IndexStore.open(storage, { geometry, nonce: 0n, clock: systemClock });
  const { layout } = store;
  const nonce = layout.volumeNonce;
  const ignore = async (): Promise<void> => {};
  const volumeStart = layout.volume.startBlock;
  const engine = new IndexEngine({
    geometry,
    storage,
    volumeStart,
    nonce,
    beforeChapterWrite: ignore,
    onDisabled: () => {},
  });
  await store.load(engine);
  const slot = layout.saves[1];
  const chapters = { newestChapter: engine.newest, oldestChapter: engine.oldest };
  const state = planSave(slot, layout, { timestamp: store.latest!.timestamp + 5, ...chapters }, zones);
  for (const [zone, region] of state.volumeIndex.entries()) {
    await saveVolumeIndex(storage, region, { index: engine.volumeIndex, nonce, zone, zones });
  }
  await saveOpenChapter(storage, state.openChapter, engine.openChapter);
  const pageMap = new Uint8Array(state.pageMap.blockCount * 4096);
  pageMap.set(engine.pageMap.encode());
  await storage.write(state.pageMap.startBlock, pageMap);
  await storage.write(slot.startBlock, encodeSave(slot, layout, state, nonce));
  // The save that was loaded must not be what is found.
  await storage.zero(layout.saves[0].startBlock, 1);
}

describe.each([
  { kind: "dense", config: TINY },
  { kind: "sparse", config: SPARSE },
])("a $kind index", ({ config }) => {
  test.each([1, 2, 3, 7, 16])("saved by %i zones is loaded", async (zones) => {
    const device = deviceFor(config);
    const names = randomRecords(3, 3000);
    const index = await UdsIndex.create({ ...config, device });
    await index.postBatch(names, randomRecords(4, 3000));
    const { entriesIndexed } = index.statistics();
    await index.close();
    await saveInZones(config, device, zones);
    const loaded = await UdsIndex.open({ ...config, device, create: "never", rebuild: false });
    expect(loaded.statistics().entriesIndexed).toBe(entriesIndexed);
    const { foundCount } = await loaded.queryBatch(names.subarray(2000 * 16));
    expect(foundCount).toBe(1000);
    await loaded.close();
  });
});
