/**
 * What is already on a device: file systems, members of arrays and volume groups, encrypted containers, partition tables,
 * and other VDO volumes, by their magic bytes. Types, usages and places are those that libblkid reports.
 */
import type { BlockDevice } from "@vdo/block-device";

export interface Signature {
  /** As blkid names it, for example `ext4`. */
  type: string;
  /** `filesystem`, `raid`, `crypto`, `other` or `partition table`. */
  usage: string;
  /** Byte on the device where the magic is. */
  offset: number;
  uuid?: string;
  label?: string;
}

interface Pattern {
  type: string;
  usage: string;
  /** Byte at which the magic starts; negative: counted back from the end of the device, rounded down to 64 KiB if `aligned`. */
  at: number;
  magic: string | readonly number[];
  uuidAt?: number;
  labelAt?: number;
  labelSize?: number;
  /** A further condition on the bytes at the start of the device. */
  when?: (head: Uint8Array) => boolean;
}

/** Bytes looked at, at the start and at the end of the device. */
const HEAD_SIZE = 512 * 1024;
const TAIL_SIZE = 128 * 1024;

const EXT_COMPATIBLE_AT = 1024 + 92;
const EXT_INCOMPATIBLE_AT = 1024 + 96;
const hasJournal = (head: Uint8Array): boolean => (head[EXT_COMPATIBLE_AT]! & 4) !== 0;
/** Extents, 64-bit, flexible block groups and what else came with ext4. */
const isExt4 = (head: Uint8Array): boolean =>
  (head[EXT_INCOMPATIBLE_AT]! & ~0x16) !== 0 || head[EXT_INCOMPATIBLE_AT + 1] !== 0;
const EXT = { usage: "filesystem", at: 1080, magic: [0x53, 0xef], uuidAt: 1128, labelAt: 1144, labelSize: 16 } as const;
const RAID = { type: "linux_raid_member", usage: "raid", magic: [0xfc, 0x4e, 0x2b, 0xa9] } as const;
const FAT_OR_NTFS = /^(FAT|MSDOS|NTFS|EXFAT)/;

function ascii(bytes: Uint8Array, at: number, size: number): string {
  let text = "";
  for (let i = at; i < Math.min(at + size, bytes.length) && bytes[i] !== 0; i++) text += String.fromCharCode(bytes[i]!);
  return text;
}

/** A table of partitions: entries with proper boot flags, and no file system whose boot sector ends with the same mark. */
function isPartitionTable(head: Uint8Array): boolean {
  for (const at of [3, 54, 82]) if (FAT_OR_NTFS.test(ascii(head, at, 8))) return false;
  for (let entry = 446; entry < 510; entry += 16) if ((head[entry]! & 0x7f) !== 0) return false;
  return true;
}

const PATTERNS: readonly Pattern[] = [
  { type: "vdo", usage: "other", at: 0, magic: "dmvdo001", uuidAt: 40 },
  { ...EXT, type: "ext4", when: isExt4 },
  { ...EXT, type: "ext3", when: (head) => hasJournal(head) && !isExt4(head) },
  { ...EXT, type: "ext2", when: (head) => !hasJournal(head) && !isExt4(head) },
  { type: "xfs", usage: "filesystem", at: 0, magic: "XFSB", uuidAt: 32, labelAt: 108, labelSize: 12 },
  { type: "btrfs", usage: "filesystem", at: 65600, magic: "_BHRfS_M", uuidAt: 65568, labelAt: 65835, labelSize: 256 },
  { type: "f2fs", usage: "filesystem", at: 1024, magic: [0x10, 0x20, 0xf5, 0xf2], uuidAt: 1132 },
  { type: "jfs", usage: "filesystem", at: 32768, magic: "JFS1" },
  { type: "reiserfs", usage: "filesystem", at: 65588, magic: "ReIsEr" },
  { type: "nilfs2", usage: "filesystem", at: 1030, magic: [0x34, 0x34], when: (head) => head[1024] === 2 },
  { type: "ntfs", usage: "filesystem", at: 3, magic: "NTFS    " },
  { type: "exfat", usage: "filesystem", at: 3, magic: "EXFAT   " },
  { type: "vfat", usage: "filesystem", at: 54, magic: "FAT1" },
  { type: "vfat", usage: "filesystem", at: 82, magic: "FAT32   " },
  { type: "iso9660", usage: "filesystem", at: 32769, magic: "CD001" },
  { type: "udf", usage: "filesystem", at: 32769, magic: "BEA01" },
  { type: "squashfs", usage: "filesystem", at: 0, magic: "hsqs" },
  { type: "erofs", usage: "filesystem", at: 1024, magic: [0xe2, 0xe1, 0xf5, 0xe0], uuidAt: 1072 },
  { type: "cramfs", usage: "filesystem", at: 0, magic: [0x45, 0x3d, 0xcd, 0x28] },
  { type: "gfs2", usage: "filesystem", at: 65536, magic: [0x01, 0x16, 0x19, 0x70] },
  { type: "swap", usage: "other", at: 4086, magic: "SWAPSPACE2", uuidAt: 1036, labelAt: 1052, labelSize: 16 },
  { type: "swap", usage: "other", at: 4086, magic: "SWAP-SPACE" },
  { type: "bcache", usage: "other", at: 4120, magic: [0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca] },
  { type: "crypto_LUKS", usage: "crypto", at: 0, magic: [0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe] },
  { type: "LVM2_member", usage: "raid", at: 536, magic: "LVM2 001" },
  { type: "LVM2_member", usage: "raid", at: 24, magic: "LVM2 001" },
  { type: "DM_thin_metadata", usage: "other", at: 32, magic: [0x2e, 0x88, 0xac, 0x01] },
  { type: "DRBD", usage: "raid", at: -4036, magic: [0x83, 0x74, 0x02, 0x6b] },
  { type: "zfs_member", usage: "filesystem", at: 131072, magic: [0x0c, 0xb1, 0xba, 0, 0, 0, 0, 0] },
  { ...RAID, at: 4096, uuidAt: 4112, labelAt: 4128, labelSize: 32 },
  { ...RAID, at: 0, uuidAt: 16, labelAt: 32, labelSize: 32 },
  { ...RAID, at: -8192 },
  { ...RAID, at: -65536 },
  { type: "gpt", usage: "partition table", at: 512, magic: "EFI PART" },
  { type: "gpt", usage: "partition table", at: 4096, magic: "EFI PART" },
  { type: "gpt", usage: "partition table", at: -512, magic: "EFI PART" },
  { type: "gpt", usage: "partition table", at: -4096, magic: "EFI PART" },
  { type: "dos", usage: "partition table", at: 510, magic: [0x55, 0xaa], when: isPartitionTable },
];

function matches(bytes: Uint8Array, at: number, magic: string | readonly number[]): boolean {
  if (at < 0 || at + magic.length > bytes.length) return false;
  for (let i = 0; i < magic.length; i++) {
    if (bytes[at + i] !== (typeof magic === "string" ? magic.charCodeAt(i) : magic[i])) return false;
  }
  return true;
}

function uuidText(bytes: Uint8Array, at: number): string {
  const text = Buffer.from(bytes.subarray(at, at + 16)).toString("hex");
  return text.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** Byte of the device for a pattern at the end: superblocks of 0.90 arrays lie at a multiple of 64 KiB. */
function placeAtEnd(at: number, deviceBytes: number): number {
  if (at === -65536) return Math.floor(deviceBytes / 65536) * 65536 - 65536;
  if (at === -8192) return Math.floor((deviceBytes - 8192) / 4096) * 4096;
  return deviceBytes + at;
}

async function readPart(device: BlockDevice, from: number, size: number): Promise<Uint8Array> {
  const first = Math.floor(from / device.blockSize);
  const count = Math.min(Math.ceil(size / device.blockSize), device.blockCount - first);
  const bytes = new Uint8Array(count * device.blockSize);
  await device.read(first, bytes);
  return bytes;
}

/** Everything known that the device holds, by position. Reads at most 640 KiB. */
export async function findSignatures(device: BlockDevice): Promise<Signature[]> {
  const deviceBytes = device.blockCount * device.blockSize;
  const head = await readPart(device, 0, HEAD_SIZE);
  const tailBlock = Math.max(0, Math.floor((deviceBytes - TAIL_SIZE) / device.blockSize));
  const tail = await readPart(device, tailBlock * device.blockSize, TAIL_SIZE + device.blockSize);
  const found: Signature[] = [];
  for (const pattern of PATTERNS) {
    const { type, usage, magic, uuidAt, labelAt, labelSize = 0, when } = pattern;
    const offset = pattern.at < 0 ? placeAtEnd(pattern.at, deviceBytes) : pattern.at;
    const [bytes, start] = pattern.at < 0 ? [tail, tailBlock * device.blockSize] : [head, 0];
    if (!matches(bytes, offset - start, magic) || when?.(head) === false) continue;
    const label = labelAt === undefined ? "" : ascii(head, labelAt, labelSize);
    found.push({
      type,
      usage,
      offset,
      ...(uuidAt === undefined || uuidAt + 16 > head.length ? {} : { uuid: uuidText(head, uuidAt) }),
      ...(label === "" ? {} : { label }),
    });
  }
  return found.sort((a, b) => a.offset - b.offset);
}
