import { MemoryDevice } from "@vdo/block-device";
import { expect, test } from "vitest";
import { findSignatures } from "./signatures.ts";

const MIB = 2 ** 20;

/** A device with bytes at some places; negative places count from the end. */
async function deviceWith(places: Record<number, string | number[]>, size = 2 * MIB): Promise<MemoryDevice> {
  const image = new Uint8Array(size);
  for (const [at, bytes] of Object.entries(places)) {
    const start = Number(at) < 0 ? size + Number(at) : Number(at);
    image.set(typeof bytes === "string" ? Buffer.from(bytes, "latin1") : bytes, start);
  }
  return MemoryDevice.from(image);
}

const RAID = [0xfc, 0x4e, 0x2b, 0xa9];
const UUID = Array.from({ length: 16 }, (_, i) => i);
const UUID_TEXT = "00010203-0405-0607-0809-0a0b0c0d0e0f";

test.each([
  ["vdo", "other", 0, { 0: "dmvdo001", 40: UUID }, { uuid: UUID_TEXT }],
  ["ext2", "filesystem", 1080, { 1080: [0x53, 0xef], 1128: UUID }, { uuid: UUID_TEXT }],
  ["ext3", "filesystem", 1080, { 1080: [0x53, 0xef], 1116: [4], 1120: [2] }, {}],
  ["ext4", "filesystem", 1080, { 1080: [0x53, 0xef], 1116: [4], 1120: [0xc2, 2], 1144: "data" }, { label: "data" }],
  ["xfs", "filesystem", 0, { 0: "XFSB", 32: UUID, 108: "twelve bytes" }, { uuid: UUID_TEXT, label: "twelve bytes" }],
  ["btrfs", "filesystem", 65600, { 65600: "_BHRfS_M" }, {}],
  ["f2fs", "filesystem", 1024, { 1024: [0x10, 0x20, 0xf5, 0xf2] }, {}],
  ["ntfs", "filesystem", 3, { 3: "NTFS    ", 510: [0x55, 0xaa] }, {}],
  ["vfat", "filesystem", 82, { 82: "FAT32   ", 510: [0x55, 0xaa] }, {}],
  ["vfat", "filesystem", 54, { 54: "FAT16   ", 510: [0x55, 0xaa] }, {}],
  ["iso9660", "filesystem", 32769, { 32769: "CD001" }, {}],
  ["swap", "other", 4086, { 4086: "SWAPSPACE2" }, {}],
  ["crypto_LUKS", "crypto", 0, { 0: [0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe] }, {}],
  ["LVM2_member", "raid", 536, { 512: "LABELONE", 536: "LVM2 001" }, {}],
  ["DM_thin_metadata", "other", 32, { 32: [0x2e, 0x88, 0xac, 0x01] }, {}],
  ["zfs_member", "filesystem", 131072, { 131072: [0x0c, 0xb1, 0xba, 0, 0, 0, 0, 0] }, {}],
  ["linux_raid_member", "raid", 4096, { 4096: RAID }, {}],
  ["linux_raid_member", "raid", 0, { 0: RAID }, {}],
  ["linux_raid_member", "raid", 2 * MIB - 8192, { [-8192]: RAID }, {}],
  ["linux_raid_member", "raid", 2 * MIB - 65536, { [-65536]: RAID }, {}],
  ["gpt", "partition table", 512, { 512: "EFI PART" }, {}],
  ["gpt", "partition table", 2 * MIB - 512, { [-512]: "EFI PART" }, {}],
  ["dos", "partition table", 510, { 446: [0x80], 450: [0x83], 510: [0x55, 0xaa] }, {}],
])("%s is found, as %s, at byte %i", async (type, usage, offset, places, more) => {
  const [found, ...rest] = await findSignatures(await deviceWith(places));
  expect(found).toMatchObject({ type, usage, offset, ...more });
  expect(rest).toEqual([]);
});

test("arrays with metadata at the end are found on a device whose size is no multiple of 64 KiB", async () => {
  const size = 2 * MIB + 5 * 4096;
  const old = await deviceWith({ [2 * MIB - 65536]: RAID }, size);
  expect(await findSignatures(old)).toMatchObject([{ type: "linux_raid_member", offset: 2 * MIB - 65536 }]);
});

test("nothing is found on zeros, on noise, or where a boot sector's mark is alone", async () => {
  expect(await findSignatures(await deviceWith({}))).toEqual([]);
  expect(await findSignatures(await deviceWith({ 0: new Array<number>(4000).fill(0x77) }))).toEqual([]);
  expect(await findSignatures(await deviceWith({ 446: [0x12], 510: [0x55, 0xaa] }))).toEqual([]);
});

test("several signatures come in the order of their places; the smallest devices are read no further than they go", async () => {
  const two = await deviceWith({ 512: "EFI PART", 1080: [0x53, 0xef] });
  expect((await findSignatures(two)).map(({ type }) => type)).toEqual(["gpt", "ext2"]);
  expect(await findSignatures(await deviceWith({ 0: "dmvdo001" }, 4096))).toMatchObject([{ type: "vdo" }]);
  expect(await findSignatures(new MemoryDevice({ blockCount: 3, blockSize: 512 }))).toEqual([]);
  expect(await findSignatures(new MemoryDevice({ blockCount: 0 }))).toEqual([]);
});
