import { fromHex } from "@vdo/base";
import { expect, test } from "vitest";
import { nameRows, placeRows } from "../test/support/format-tables.ts";
import { indexGeometry } from "./geometry.ts";
import { chapterAddress, chapterList, isHook, volumeAddress, volumeList } from "./record-place.ts";

test.each(placeRows)("a name goes where upstream code puts it: %s GiB %s, name %s", (...row) => {
  const [memory, kind, number, hook, ...places] = row;
  const geometry = indexGeometry({ memory: Number(memory), sparse: kind === "sparse" });
  const name = fromHex(nameRows[Number(number) - 1]?.[0] as string);
  const isSampled = geometry.sampleRate > 0 && isHook(name, geometry.sampleRate);
  expect(isSampled).toBe(hook === "yes");
  const sub = geometry.subIndexes[isSampled ? 1 : 0];
  const { chapterAddressBits, chapterListBits } = geometry;
  expect([
    volumeList(name, 20, sub?.listCount ?? 0),
    volumeAddress(name, 20),
    chapterList(name, chapterAddressBits, chapterListBits),
    chapterAddress(name, chapterAddressBits),
  ]).toEqual(places.map(Number));
});
