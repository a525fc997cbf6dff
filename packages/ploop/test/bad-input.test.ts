import { mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isVdoError } from "@vdo/base";
import { describe, expect, test } from "vitest";
import type { StackFile } from "../src/device/open-stack.ts";
import { mergeIntoTop } from "../src/device/operations/merge.ts";
import { snapshotTop } from "../src/device/operations/stack.ts";
import { PloopDevice } from "../src/device/ploop-device.ts";
import { PloopDisk } from "../src/disk/ploop-disk.ts";
import type { DeviceFile } from "../src/file/device-file.ts";
import { NodeDirectory } from "../src/file/node-directory.ts";
import { DESCRIPTOR_NAME, type DiskDescriptor, formatDescriptor, parseDescriptor } from "../src/format/descriptor.ts";
import { IN_USE } from "../src/format/header.ts";
import { entriesOf, memoryImage, poke } from "./support/images.ts";
import { MemoryDirectory } from "./support/memory-directory.ts";

const CLUSTER = 32768;

/** A stack of three images, each with clusters of its own. */
async function stack(): Promise<DeviceFile[]> {
  const files: DeviceFile[] = [];
  for (const name of ["base", "middle", "top"]) {
    const file = await memoryImage(name);
    const device = await PloopDevice.open({ deltas: [{ file }], extendBytes: 1 });
    await device.write(files.length * 64, new Uint8Array(3 * CLUSTER).fill(files.length + 1));
    await device.close();
    files.push(file);
  }
  return files;
}

const opened = (files: readonly DeviceFile[], change: (deltas: StackFile[]) => StackFile[] = (deltas) => deltas) =>
  PloopDevice.open({ deltas: change(files.map((file) => ({ file }))), extendBytes: 1 });

/** The code of the refusal, and the image and field it names. */
async function refusal(act: Promise<unknown>): Promise<string> {
  try {
    await act;
    return "nothing";
  } catch (error) {
    if (isVdoError(error, "VDO_CORRUPT")) return `${error.code} ${error.data.structure}: ${error.data.field}`;
    if (isVdoError(error, "VDO_PLOOP_DIRTY")) return `${error.code} ${error.data.image}`;
    if (isVdoError(error)) return `${error.code}`;
    throw error;
  }
}

describe("a stack is refused", () => {
  const entry = (cluster: number): number => 64 + 4 * cluster;
  test.each([
    ["signature", 0, { 0: 0x20202020 }, "VDO_CORRUPT base: signature"],
    ["type", 1, { 16: 1 }, "VDO_CORRUPT middle: type"],
    ["cluster size", 2, { 28: 65 }, "VDO_CORRUPT top: cluster size"],
    ["number of entries", 0, { 32: 0 }, "VDO_CORRUPT base: BAT size"],
    ["disk size", 1, { 36: 5 }, "VDO_CORRUPT middle: disk size"],
    ["disk size's high half", 1, { 40: 1 }, "VDO_CORRUPT middle: disk size"],
    ["in-use word below the top", 1, { 44: IN_USE.open }, "VDO_PLOOP_DIRTY middle"],
    ["first block offset", 2, { 48: 128 }, "VDO_CORRUPT top: first block offset"],
    ["flag of a conversion", 0, { 52: 2 }, "VDO_CORRUPT base: flags"],
    ["in-use word", 2, { 44: 0x12345678 }, "VDO_CORRUPT top: in-use word"],
    ["flag", 1, { 52: 0x80 }, "VDO_CORRUPT middle: flags"],
    ["extension offset", 0, { 60: 0xffffffff }, "VDO_CORRUPT base: extensionOffset"],
    ["entry beyond the end", 0, { [entry(9)]: 4 }, "VDO_CORRUPT base: BAT entry 9"],
    ["entry of all ones", 1, { [entry(9)]: 0xffffffff }, "VDO_CORRUPT middle: BAT entry 9"],
    ["entry used twice", 2, { [entry(9)]: 2 }, "VDO_CORRUPT top: BAT entry 9"],
    ["entry after the last", 2, { [entry(32)]: 1 }, "VDO_CORRUPT top: BAT entry 32"],
  ])("for a wrong %s", async (_name, level, words, expected) => {
    const files = await stack();
    await poke(files[level] as DeviceFile, words);
    expect(await refusal(opened(files))).toBe(expected);
  });

  test("of which an image is cut, extended or emptied", async () => {
    for (const [length, expected] of [
      [5 * CLUSTER - 512, "VDO_CORRUPT middle: file length"],
      [CLUSTER + 4096, "VDO_CORRUPT middle: file length"],
      [2 * CLUSTER, "VDO_CORRUPT middle: BAT entry 2"],
      [4096, "VDO_CORRUPT middle: file length"],
      [0, "VDO_CORRUPT middle: file length"],
    ] as const) {
      const files = await stack();
      await files[1]?.setLength(length);
      expect(await refusal(opened(files)), String(length)).toBe(expected);
    }
  });

  test("of which the images do not fit together", async () => {
    const files = await stack();
    const other = async (options: object): Promise<StackFile> => ({ file: await memoryImage("other", options) });
    for (const [options, expected] of [
      [{ version: 1 }, "VDO_CORRUPT other: signature"],
      [{ clusterSectors: 128 }, "VDO_CORRUPT other: cluster size"],
      [{ sizeSectors: 4096 }, "VDO_CORRUPT other: BAT size"],
    ] as const) {
      const wrong = await other(options);
      expect(await refusal(opened(files, ([, ...upper]) => [wrong, ...upper]))).toBe(expected);
    }
    const raw = { file: await memoryImage("other", { mode: "raw" }), raw: true };
    expect(await refusal(opened(files, ([base, , top]) => [base, raw, top] as StackFile[]))).toBe("VDO_BAD_ARGUMENT");
    expect(await refusal(opened(files, () => [raw]))).toBe("VDO_BAD_ARGUMENT");
    expect(await refusal(opened(files, () => []))).toBe("VDO_BAD_ARGUMENT");
    await raw.file.setLength(CLUSTER + 512);
    expect(await refusal(opened(files, ([, ...upper]) => [raw, ...upper]))).toBe("VDO_CORRUPT other: file length");
  });
});

test("a lower delta that somebody changes under a running stack is an error, not wrong data", async () => {
  const files = await stack();
  const device = await opened(files);
  await poke(files[0] as DeviceFile, { 64: 99 });
  expect(await refusal(device.read(0, new Uint8Array(512)))).toBe("VDO_CORRUPT base: BAT entry 0");
  await poke(files[0] as DeviceFile, { 64: 1 });
  const block = new Uint8Array(512);
  await device.read(0, block);
  expect(block[0]).toBe(1);
  await files[0]?.setLength(CLUSTER);
  expect(await refusal(device.read(8, block))).toBe("VDO_IO");
});

test("a lower delta that another opens for writing, or grows, is named before anything is built on it", async () => {
  for (const [words, field] of [
    [{ 44: IN_USE.open }, "header inUse"],
    [{ 0: 0x20202020 }, "signature"],
    [{ 32: 31, 36: 31 * 64 }, "header clusterCount"],
  ] as const) {
    const files = await stack();
    const device = await opened(files);
    await poke(files[1] as DeviceFile, words);
    expect(await refusal(mergeIntoTop(device))).toBe(`VDO_CORRUPT middle: ${field}`);
    const fresh = await memoryImage("fresh");
    expect(await refusal(snapshotTop(device, fresh))).toBe(`VDO_CORRUPT middle: ${field}`);
    const block = new Uint8Array(512);
    await device.read(4 * 64, block);
    expect(block[0]).toBe(3);
  }
});

describe("a disk is refused", () => {
  const image = { version: 2 as const, sizeSectors: 1024, clusterSectors: 64 };
  let number = 0;
  const newGuid = (): string => `{00000000-0000-4000-8000-${String(++number).padStart(12, "0")}}`;

  /** A disk of two images whose descriptor's text was changed. */
  async function changed(change: (text: string) => string): Promise<PloopDisk> {
    const directory = new MemoryDirectory();
    const disk = await PloopDisk.create({ directory, newGuid, file: "a.hds", image });
    await disk.snapshot();
    directory.texts.set(DESCRIPTOR_NAME, change(directory.texts.get(DESCRIPTOR_NAME) as string));
    return PloopDisk.load({ directory, newGuid });
  }

  test("when the descriptor tells another cluster size or type than the images have, or a file is missing", async () => {
    const other = await changed((text) => text.replace("<Blocksize>64<", "<Blocksize>128<"));
    expect(await refusal(other.open())).toBe("VDO_CORRUPT DiskDescriptor.xml: Blocksize");
    const plain = await changed((text) => text.replace("Compressed", "Plain"));
    expect(await refusal(plain.open())).toBe("VDO_CORRUPT DiskDescriptor.xml: Type");
    const missing = await changed((text) => text.replace("<File>a.hds<", "<File>b.hds<"));
    expect(await refusal(missing.open())).toBe("VDO_IO");
    await expect(missing.open()).rejects.toThrow("b.hds");
    const twice = changed((text) => text.replace(/<File>a.hds.(.*?)<\/File>/, "<File>./a.hds</File>"));
    expect(await refusal(twice)).toBe("VDO_CORRUPT DiskDescriptor.xml: File");
  });

  test("not for another size in the descriptor: a check sets it right", async () => {
    const disk = await changed((text) => text.replace("<Disk_size>1024<", "<Disk_size>512<"));
    const [seen] = await disk.check({ readOnly: true });
    expect(seen).toMatchObject({ file: DESCRIPTOR_NAME, report: { result: "damaged" } });
    const [fixed] = await disk.check();
    expect(fixed?.report.findings).toEqual([
      { place: "Disk_size", text: "it is 512 sectors, the top image has 1024", outcome: "Fixed" },
    ]);
    expect((await disk.check()).map(({ file }) => file)).not.toContain(DESCRIPTOR_NAME);
    expect(disk.descriptor.sizeSectors).toBe(1024);
  });

  test("when two names lead to one file", async () => {
    const folder = await mkdtemp(join(tmpdir(), "ploop-same-"));
    try {
      const directory = new NodeDirectory(folder);
      const disk = await PloopDisk.create({ directory, newGuid, file: "a.hds", image });
      await disk.snapshot();
      const top = disk.chain().at(-1)?.file as string;
      await rm(join(folder, top));
      await symlink("a.hds", join(folder, top));
      expect(await refusal(disk.open())).toBe(`VDO_CORRUPT ${join(folder, top)}: file`);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

test("a top that was not closed runs again after its index was checked, or is refused on request", async () => {
  const files = await stack();
  const top = files[2] as DeviceFile;
  await poke(top, { 44: IN_USE.open });
  const deltas = files.map((file) => ({ file }));
  expect(await refusal(PloopDevice.open({ deltas, refuseDirty: true }))).toBe("VDO_PLOOP_DIRTY top");
  await poke(top, { 44: IN_USE.extended, 56: 64 });
  const device = await PloopDevice.open({ deltas });
  const header = new Uint8Array(512);
  await top.read(0, header);
  const view = new DataView(header.buffer);
  expect([view.getUint32(44, true), view.getUint32(56, true)]).toEqual([IN_USE.open, 0]);
  await device.close();
  expect(await entriesOf(top)).toEqual({ 2: 1, 3: 2, 4: 3 });
});

describe("a descriptor is refused", () => {
  const guid = (digit: number): string => `{${String(digit).repeat(8)}-0000-4000-8000-000000000000}`;
  const none = "{00000000-0000-0000-0000-000000000000}";
  const good = (): DiskDescriptor => ({
    sizeSectors: 2048,
    cylinders: 4,
    heads: 16,
    clusterSectors: 64,
    mode: "expanded",
    images: [1, 2, 3].map((n) => ({ guid: guid(n), file: `f${n}` })),
    shots: [1, 2, 3].map((n) => ({ guid: guid(n), parent: n === 1 ? none : guid(n - 1) })),
    topGuid: guid(3),
  });
  const text = formatDescriptor(good());

  test("not when it is good, however it is written", () => {
    expect(parseDescriptor(text, "d")).toEqual(good());
    const other = text
      .replace("<Snapshots>", "<!-- tree --><Unknown a='1'>x</Unknown><Snapshots>")
      .replace("<Blocksize>64<", "<Blocksize>0x40<")
      .replace("f1", "<![CDATA[f1]]>")
      .replaceAll("\n", "\r\n");
    expect(parseDescriptor(other, "d")).toEqual(good());
    const old = formatDescriptor({ ...good(), images: [{ guid: guid(3), file: "f" }], shots: [] });
    expect(parseDescriptor(old, "d").shots).toEqual([{ guid: guid(3), parent: none }]);
  });

  test.each([
    ["no XML", () => "hello", "XML"],
    ["not well-formed", () => text.replace("</Storage>", ""), "XML"],
    ["empty", () => "", "XML"],
    ["no parameters", () => text.replaceAll("Disk_Parameters", "Other"), "Disk_Parameters"],
    ["two storages", () => text.replace(/<Storage>[\s\S]*<\/Storage>/, "$&$&"), "Storage"],
    ["cluster 252", () => text.replace("<Blocksize>64<", "<Blocksize>252<"), "Blocksize"],
    ["no cluster", () => text.replace(/<Blocksize>64<\/Blocksize>/, ""), "Blocksize"],
    ["no image", () => text.replace(/<Image>[\s\S]*<\/Image>/, ""), "Image"],
    ["no snapshots", () => text.replaceAll("Snapshots", "Other"), "Snapshots"],
    ["bad GUID of an image", () => text.replace(guid(1), "{1}"), "GUID"],
    ["bad type", () => text.replace("Compressed", "Squeezed"), "Type"],
    ["bad file", () => text.replace("<File>f1<", "<File>f1/<"), "File"],
    ["no file", () => text.replace("<File>f1</File>", ""), "File"],
    ["same file twice", () => text.replace("<File>f1<", "<File>f2<"), "File"],
    [
      "preallocated 2",
      () => text.replace("</Blocksize>", "</Blocksize><Preallocated>2</Preallocated>"),
      "Preallocated",
    ],
    [
      "preallocated and raw",
      () =>
        text.replace("</Blocksize>", "</Blocksize><Preallocated>1</Preallocated>").replaceAll("Compressed", "Plain"),
      "Preallocated",
    ],
    ["a shot without image", () => formatDescriptor({ ...good(), images: good().images.slice(1) }), "Shot"],
    ["a GUID twice", () => text.replaceAll(guid(2), guid(1)), "Image GUID"],
    ["an unknown parent", () => text.replace(`<ParentGUID>${guid(1)}`, `<ParentGUID>${guid(9)}`), "ParentGUID"],
    ["a circle", () => text.replace(`<ParentGUID>${none}`, `<ParentGUID>${guid(3)}`), "ParentGUID"],
    ["its own parent", () => text.replace(`<ParentGUID>${guid(1)}`, `<ParentGUID>${guid(2)}`), "ParentGUID"],
    ["an unknown top", () => text.replace(`<TopGUID>${guid(3)}`, `<TopGUID>${guid(9)}`), "TopGUID"],
    ["a temporary top", () => text.replace(/(.*)<\/Shot>/s, "$1<Temporary/></Shot>"), "TopGUID"],
    ["two states", () => text.replace("</Shot>", "<Temporary/><TemporaryZero/></Shot>"), "Shot"],
  ])("with %s, and the element is named", (_name, make, field) => {
    try {
      parseDescriptor(make(), "d");
      expect.unreachable();
    } catch (error) {
      if (!isVdoError(error, "VDO_CORRUPT")) throw error;
      expect(error.data.structure).toBe("d");
      expect(error.data.field).toContain(field);
    }
  });
});
