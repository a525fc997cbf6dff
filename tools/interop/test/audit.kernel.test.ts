/** Our audit says what the original's says, line for line, of sound volumes and of damaged ones. */
import { type BlockDevice, FileDevice } from "@vdo/block-device";
import { auditVolume, format, setReadOnly } from "@vdo/kvdo";
import { describeWithKernel, runGuest } from "@vdo/oracle";
import { afterAll, describe, expect, test } from "vitest";
import { BLOCK, content } from "./support/content.ts";
import { Workplace } from "./support/workplace.ts";

/** Where the parts of a volume with the smallest index and slabs of 2^13 blocks are; its first page goes to its first slab. */
const SLAB = 679_127 + 2 + 60;
const SLAB_BLOCKS = 8192;
const COUNTS = SLAB + 7966;
const SLABS = 4;
const SUMMARY = SLAB + SLABS * SLAB_BLOCKS + 32_768;
const BLOCKS = SUMMARY + 64;
/** Pages of logical block 0, as the first write makes them from the root down. */
const LEAF = SLAB + 3;
const ABOVE_LEAF = SLAB + 2;
const FAR_AWAY = 2 ** 33;

type Damage = (device: BlockDevice) => Promise<void>;

async function edit(device: BlockDevice, block: number, change: (bytes: Uint8Array) => void): Promise<void> {
  const bytes = new Uint8Array(BLOCK);
  await device.read(block, bytes);
  change(bytes);
  await device.write(block, bytes);
}

const mapping =
  (page: number, slot: number, pbn: number, state: number): Damage =>
  (device) =>
    edit(device, page, (bytes) => {
      const at = 36 + slot * 5;
      bytes[at] = (Math.floor(pbn / 2 ** 32) << 4) | state;
      new DataView(bytes.buffer).setUint32(at + 1, pbn % 2 ** 32, true);
    });
const count =
  (sbn: number, value: number): Damage =>
  (device) =>
    edit(device, COUNTS + Math.floor(sbn / 4032), (bytes) => {
      const within = sbn % 4032;
      bytes[Math.floor(within / 504) * 512 + 8 + (within % 504)] = value;
    });
const hint =
  (slab: number, value: number): Damage =>
  (device) =>
    edit(device, SUMMARY, (bytes) => {
      bytes[slab * 2 + 1] = ((bytes[slab * 2 + 1] ?? 0) & 0xc0) | value;
    });
const all =
  (...damages: Damage[]): Damage =>
  async (device) => {
    for (const damage of damages) await damage(device);
  };
const range = <T>(from: number, to: number, make: (i: number) => T): T[] =>
  Array.from({ length: to - from }, (_, i) => make(from + i));

/** A data block that several logical blocks share. */
const SHARED = SLAB + 30;

const DAMAGES: readonly (readonly [what: string, damage: Damage])[] = [
  ["nothing", async () => undefined],
  ["counts", all(count(40, 0), count(41, 3), count(42, 200), count(3000, 1), count(50, 255), count(4000, 255))],
  ["many counts", all(...range(0, 600, (i) => count(i, 0)))],
  ["counts of pages", all(count(0, 1), count(1, 255), count(2, 7), count(3, 253))],
  ["hints", all(hint(0, 5), hint(1, 9))],
  ["an unmapped leaf entry with a block", mapping(LEAF, 4, SHARED, 0)],
  ["a compressed leaf entry without one", mapping(LEAF, 4, 0, 5)],
  ["a leaf entry out of range", mapping(LEAF, 4, FAR_AWAY, 4)],
  ["a leaf entry of metadata", mapping(LEAF, 4, COUNTS, 1)],
  ["a leaf entry of a page", mapping(LEAF, 4, ABOVE_LEAF, 1)],
  ["a lost leaf entry", mapping(LEAF, 0, 0, 0)],
  ["too many references", all(...range(10, 300, (slot) => mapping(LEAF, slot, SHARED, 1)))],
  [
    "references to a slab that was never used",
    all(...range(0, 200, (i) => mapping(LEAF, i, SLAB + 3 * SLAB_BLOCKS + i, 1))),
  ],
  ["an interior entry of zeros", mapping(ABOVE_LEAF, 5, 0, 1)],
  ["an interior entry of a data block, compressed", mapping(ABOVE_LEAF, 5, SHARED, 4)],
  ["a page named twice", mapping(ABOVE_LEAF, 5, LEAF, 1)],
  ["a leaf that is another page", (device) => edit(device, LEAF, (bytes) => void bytes.set([1, 2, 3], 16))],
  ["read-only mode", (device) => setReadOnly(device)],
  ["no geometry", (device) => edit(device, 0, (bytes) => bytes.fill(0))],
];

const LETTERS = "abcdefghijklmnopqrst";

describeWithKernel(
  "the audit",
  () => {
    const workplace = new Workplace();
    afterAll(() => workplace.remove());

    test("prints what vdoaudit prints", async () => {
      const base = workplace.image("base.img", BLOCKS * BLOCK);
      const device = await FileDevice.open({ path: base });
      await format(device, { logicalSize: 2 ** 30, slabBits: 13, indexMemory: 0.25 });
      await device.close();
      await workplace.withVolume(base, { deduplication: false }, async (volume) => {
        for (const at of [0, 812 * 60]) await volume.write(at, content(5, 800));
      });
      const images: string[] = [];
      for (const [i, [, damage]] of DAMAGES.entries()) {
        const path = workplace.copy(`${i}.img`, base);
        const damaged = await FileDevice.open({ path });
        await damage(damaged);
        await damaged.close();
        images.push(path);
      }
      const names = DAMAGES.flatMap((_, i) => ["s", "v"].map((flag) => `${i}${flag}`));
      const guest = await runGuest({
        disks: images,
        collect: names.flatMap((name) => [`${name}.out`, `${name}.err`, `${name}.rc`]),
        script: DAMAGES.flatMap((_, i) =>
          ["s", "v"].map(
            (flag) =>
              `vdoaudit -${flag} /dev/vd${LETTERS[i]} > ${i}${flag}.out 2> ${i}${flag}.err; echo $? > ${i}${flag}.rc`,
          ),
        ).join("\n"),
      });
      const text = (name: string): string => Buffer.from(guest.files.get(name) ?? []).toString();
      for (const [i, [what]] of DAMAGES.entries()) {
        for (const flag of ["s", "v"]) {
          const theirs = {
            out: text(`${i}${flag}.out`),
            err: text(`${i}${flag}.err`),
            rc: Number(text(`${i}${flag}.rc`)),
          };
          const name = `/dev/vd${LETTERS[i]}`;
          const ours = await auditText(images[i] as string, name, flag === "v");
          expect(ours, `${what}, -${flag}`).toEqual(theirs);
        }
      }
    });
  },
  { describe, test },
);

/** What `vdo audit` would print, with the path that the guest knew. */
async function auditText(path: string, name: string, verbose: boolean) {
  const texts = { out: "", error: "" };
  const device = await FileDevice.open({ path, readOnly: true });
  try {
    const { exitStatus } = await auditVolume(device, {
      name,
      verbose,
      onLine: ({ stream, text }) => {
        texts[stream] += `${text}\n`;
      },
    });
    return { out: texts.out, err: texts.error, rc: exitStatus };
  } catch (error) {
    expect(error).toMatchObject({ code: "VDO_BAD_MAGIC" });
    const why = "VDO Status: Bad magic number";
    return {
      out: "",
      err: `vdoaudit: loading VDO failed with: ${why}\nvdoaudit: Could not load VDO from '${name}': ${why}\n`,
      rc: 1,
    };
  } finally {
    await device.close();
  }
}
