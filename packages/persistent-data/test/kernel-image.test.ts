/** Metadata that the kernel's dm-thin wrote: every mapping as thin_dump saw it, every count of both maps recounted. */
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { u64le } from "@vdo/base";
import { MemoryDevice } from "@vdo/block-device";
import { expect, test } from "vitest";
import { BTree, DiskSpaceMap, Store } from "../src/index.ts";
import { deviceDetails, mapping, THIN, thinSuperblock } from "./support/thin-superblock.ts";

const golden = new URL("golden/", import.meta.url);
const image = gunzipSync(readFileSync(new URL("thin-metadata.img.gz", golden)));
const xml = readFileSync(new URL("thin.xml", golden), "utf8");

/** Mappings of the dump: "device virtual data time". */
function mappingsOfDump(): string[] {
  const found: string[] = [];
  let device = "";
  for (const line of xml.split("\n")) {
    const attribute = (name: string): number => Number(new RegExp(`\\b${name}="(\\d+)"`).exec(line)?.[1]);
    if (line.includes("<device ")) device = `${attribute("dev_id")}`;
    if (line.includes("<single_mapping")) {
      found.push(`${device} ${attribute("origin_block")} ${attribute("data_block")} ${attribute("time")}`);
    }
    if (line.includes("<range_mapping")) {
      for (let i = 0; i < attribute("length"); i++) {
        found.push(`${device} ${attribute("origin_begin") + i} ${attribute("data_begin") + i} ${attribute("time")}`);
      }
    }
  }
  return found;
}

test("a pool of the kernel is read: mappings, details, counts", async () => {
  const store = await Store.open({ device: MemoryDevice.from(image), superblock: THIN, readOnly: true });
  const head = thinSuperblock.decode(store.superblock.bytes);
  expect(head.transactionId).toBe(5);
  const top = new BTree<number>(store, { type: { codec: u64le }, name: "mapping tree" });
  const maps = new BTree(store, { levels: 2, type: { codec: mapping }, name: "mapping tree" });
  const bottom = new BTree(store, { type: { codec: mapping }, name: "device map" });
  const details = new BTree(store, { type: { codec: deviceDetails }, name: "details tree" });
  const dataMap = DiskSpaceMap.open(store, head.dataSpaceMap, { name: "data space map" });

  const found = await store.read(function* () {
    const lines: string[] = [];
    for (const { key: device, value: root } of yield* top.range(head.mappingRoot)) {
      for (const { key, value } of yield* bottom.range(root))
        lines.push(`${device} ${key} ${value.block} ${value.time}`);
    }
    return lines;
  });
  expect(found).toEqual(mappingsOfDump());
  expect(found.length).toBeGreaterThan(100);

  const devices = await store.read(() => details.range(head.detailsRoot));
  for (const { key, value } of devices) {
    expect(value.mappedBlocks).toBe(found.filter((line) => line.startsWith(`${key} `)).length);
  }
  const [device, virtual, block, time] = (found[20] as string).split(" ").map(Number) as [
    number,
    number,
    number,
    number,
  ];
  expect(await store.read(() => maps.lookup(head.mappingRoot, [device, virtual]))).toEqual({ block, time });
  expect(maps.peek(head.mappingRoot, [device, virtual])).toEqual({ block, time });

  // The held metadata snapshot pins data blocks too, so the count is of blocks, not of mappings.
  const counts = await store.read(function* () {
    let used = 0;
    for (let number = 0; number < dataMap.blockCount; number++) if ((yield* dataMap.count(number)) > 0) used++;
    let metadata = 0;
    for (let number = 0; number < store.blockCount; number++) if ((yield* store.count(number)) > 0) metadata++;
    return { used, metadata };
  });
  expect(counts).toEqual({ used: dataMap.allocatedCount, metadata: store.allocatedCount });
  // The kernel's status line said 118/1024 and 178/2048; it counts its reserve of a tenth (102) as used.
  expect(counts).toEqual({ used: 178, metadata: 118 - 102 });
});
