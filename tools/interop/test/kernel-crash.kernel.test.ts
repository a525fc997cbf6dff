/**
 * The kernel's volumes after a power cut: we recover them, and the kernel finds nothing wrong with what we made of them. On
 * copies of the same images the kernel recovers too: the same block map and the same reference counts, block for block.
 */
import { describeWithKernel, type GuestResult, runGuest } from "@vdo/oracle";
import { afterAll, describe, expect, test } from "vitest";
import { sumLines } from "./support/area.ts";
import { BLOCK, content, sha256 } from "./support/content.ts";
import { metadataOf } from "./support/metadata.ts";
import { Versions } from "./support/versions.ts";
import { Workplace } from "./support/workplace.ts";

const DATA = content(31, 4096);
const part = (first: number, count: number): Uint8Array => DATA.subarray(first * BLOCK, (first + count) * BLOCK);

/** Fixed parts of a formatted volume with the smallest index, and a slab of 2^13 blocks. */
const FIXED_BLOCKS = 679_127 + 2 + 60 + 64 + 32_768;
const SLAB_BLOCKS = 8192;

interface Case {
  name: string;
  slabs: number;
  /** Pages of the block map cache, and its maximum age: a small age leaves the block map half written. */
  cache: number;
  age: number;
  features: string;
  isFull?: boolean;
}

const CASES: readonly Case[] = [
  { name: "small", slabs: 6, cache: 4096, age: 2, features: "deduplication on compression on" },
  {
    name: "two",
    slabs: 6,
    cache: 8192,
    age: 8,
    features: "logical 2 physical 2 hash 2 deduplication off compression on",
  },
  {
    name: "three",
    slabs: 7,
    cache: 12288,
    age: 1,
    features: "logical 3 physical 3 hash 3 deduplication off compression on",
  },
  { name: "full", slabs: 2, cache: 4096, age: 4, features: "deduplication off compression off", isFull: true },
  { name: "again", slabs: 6, cache: 4096, age: 16380, features: "deduplication off compression on" },
];
const DEVICES = ["vda", "vdb", "vdc", "vdd", "vde"] as const;
const device = (i: number): string => `/dev/${DEVICES[i]}`;

const TABLE = `table() { # DEVICE CACHE AGE FEATURES…
  _d=$1; _c=$2; _a=$3; shift 3
  echo "0 $(($(vdo_logical $_d) * 8)) vdo V4 $_d $(vdo_physical $_d) 4096 $_c $_a $*"
}
wait_recovered() { # NAME: until no slab is left to be recovered
  while dmsetup status $1 | grep -q recovering; do sleep 0.2; done
}`;

const start = (i: number): string => {
  const { name, cache, age, features } = CASES[i] as Case;
  return `dmsetup create ${name} --table "$(table ${device(i)} ${cache} ${age} ${features})"`;
};

/** Durable writes, then writes and discards in flight. */
const durableScript = ({ name, isFull }: Case): string =>
  isFull === true
    ? `for at in 0 100000 200000; do copy_blocks /dev/vdf 0 /dev/mapper/${name} $at 4096; done
       dd if=/dev/vdf of=/dev/mapper/${name} bs=64k seek=$((300000 * 4096)) oflag=direct,seek_bytes conv=notrunc 2>&1 | grep -c 'No space'
       blkdiscard -o $((100000 * 4096)) -l $((64 * 4096)) /dev/mapper/${name}; sync /dev/mapper/${name}`
    : `copy_blocks /dev/vdf 0 /dev/mapper/${name} 0 2048
       copy_blocks /dev/vdf 0 /dev/mapper/${name} 500000 1024
       i=0; while [ $i -lt 12 ]; do copy_blocks /dev/vdf $i /dev/mapper/${name} $((1000000 + i * 812)) 1; i=$((i + 1)); done
       discard_blocks /dev/mapper/${name} 500000 100; sync /dev/mapper/${name}`;

const flightScript = ({ name, isFull }: Case): string => {
  const write = (from: number, at: number, count: number, bs: string): string =>
    `dd if=/dev/vdf of=/dev/mapper/${name} bs=${bs} skip=$((${from} * 4096)) seek=$((${at} * 4096)) count=$((${count} * 4096)) iflag=skip_bytes,count_bytes oflag=direct,seek_bytes conv=notrunc 2> /dev/null &`;
  if (isFull === true) return write(1000, 0, 512, "4k");
  return [
    write(2048, 0, 1024, "4k"),
    write(1000, 700_000, 2048, "64k"),
    write(3000, 1_000_000, 1000, "4k"),
    `discard_blocks /dev/mapper/${name} 1500 300 &`,
  ].join("\n");
};

function versionsOf({ isFull }: Case): Versions {
  const versions = new Versions();
  if (isFull === true) {
    for (const at of [0, 100_000, 200_000]) versions.durable(at, DATA);
    versions.zeros({ start: 100_000, count: 64 });
    versions.maybe(300_000, DATA);
    versions.maybe(0, part(1000, 512));
    return versions;
  }
  versions.durable(0, part(0, 2048));
  versions.durable(500_000, part(0, 1024));
  versions.zeros({ start: 500_000, count: 100 });
  for (let i = 0; i < 12; i++) versions.durable(1_000_000 + i * 812, part(i, 1));
  versions.maybe(0, part(2048, 1024));
  versions.maybe(700_000, part(1000, 2048));
  versions.maybe(1_000_000, part(3000, 1000));
  versions.maybeZeros({ start: 1500, count: 300 });
  return versions;
}

/** Areas whose content is compared with the kernel's after both recovered. */
const areasOf = ({ isFull }: Case) =>
  isFull === true
    ? [
        { start: 0, count: 1024 },
        { start: 99_000, count: 6000 },
        { start: 200_000, count: 4096 },
        { start: 300_000, count: 4096 },
      ]
    : [
        { start: 0, count: 2048 },
        { start: 500_000, count: 1024 },
        { start: 700_000, count: 2048 },
        { start: 1_000_000, count: 1700 },
      ];

const sums = (i: number): string =>
  areasOf(CASES[i] as Case)
    .map(
      ({ start: at, count }) =>
        `echo "sum ${CASES[i]?.name} ${at} $(blocks_sum /dev/mapper/${CASES[i]?.name} ${at} ${count})"`,
    )
    .join("\n");

const kernelRecovery = (i: number): string => {
  const { name } = CASES[i] as Case;
  return `${start(i)}; wait_recovered ${name}; ${sums(i)}; vdo_stop ${name}; audit ${device(i)} 2>&1`;
};

describeWithKernel(
  "volumes that the kernel left in a power cut",
  () => {
    const workplace = new Workplace();
    afterAll(() => workplace.remove());
    const images = CASES.map(({ name, slabs }) =>
      workplace.image(`${name}.img`, (FIXED_BLOCKS + slabs * SLAB_BLOCKS) * BLOCK),
    );
    const copies: string[] = [];
    const data = { path: workplace.dataImage("data.img", DATA), readOnly: true };
    /** What we read after our recovery, by the lines of {@link sums}. */
    const ourSums: string[] = [];
    let kernels: GuestResult;

    test("are left dirty, with their journals full of what the block map lacks", async () => {
      const guest = await runGuest({
        disks: [...images, data],
        timeoutSeconds: 240,
        script: `${TABLE}
          ${CASES.map((one, i) => `vdoformat --force --logical-size=${one.isFull ? "4G" : "16G"} --slab-bits=13 ${device(i)} > /dev/null; ${start(i)}`).join("\n")}
          ${CASES.map(durableScript).join("\n")}
          ${CASES.map(flightScript).join("\n")}
          sleep 1.5
          ${CASES.map(({ name }) => `vdostats --verbose ${name} | grep -E 'journal entries committed|slabs opened'`).join("\n")}
          cut_power`,
      });
      expect(guest.timedOut, guest.output).toBe(false);
      expect(guest.exitCode).toBe(null);
      for (const [i, image] of images.entries()) {
        expect((await metadataOf(image)).state, guest.output).toBe("DIRTY");
        copies.push(workplace.copy(`${CASES[i]?.name}.copy.img`, image));
      }
    });

    test("are recovered by the kernel: copies of them; the power goes again in one recovery", async () => {
      kernels = await runGuest({
        disks: [...copies.slice(0, 4), images[4] as string],
        timeoutSeconds: 240,
        script: `${TABLE}
          ${[0, 1, 2, 3].map(kernelRecovery).join("\n")}
          (${start(4)}) & sleep 0.4
          cut_power`,
      });
      expect(kernels.output.match(/All pbn references matched/g), kernels.output).toHaveLength(4);
    });

    test.each(CASES.map((one, i) => [one.name, i] as const))("%s: is recovered here", async (name, i) => {
      const one = CASES[i] as Case;
      const versions = versionsOf(one);
      await workplace.withVolume(images[i] as string, { readOnly: true }, async (volume) => {
        expect((await versions.check(volume)).wrong, "read without recovery").toEqual([]);
      });
      await workplace.withVolume(images[i] as string, { deduplication: false }, async (volume) => {
        const { wrong, newer } = await versions.check(volume);
        expect(wrong).toEqual([]);
        expect(newer, "something that was in flight is there").toBeGreaterThan(0);
        for (const { start: at, count } of areasOf(one)) {
          const bytes = new Uint8Array(count * BLOCK);
          await volume.read(at, bytes);
          ourSums.push(`sum ${name} ${at} ${sha256(bytes)}`);
        }
        // Where the power went again, it may have gone after the kernel's recovery: then that one counts too.
        const recoveries = name === "again" ? [1, 2] : [1];
        expect(recoveries).toContain(volume.statistics().completeRecoveries);
      });
      const ours = await metadataOf(images[i] as string);
      expect(ours).toMatchObject({ state: "CLEAN", problems: [], notes: [] });
      if (one.name === "again") return;
      // What may differ is where the journals stand, commit points, and hints; map and counts may not.
      const theirs = await metadataOf(copies[i] as string);
      expect(theirs).toMatchObject({ state: "CLEAN", problems: [] });
      expect(ours.mappings).toBe(theirs.mappings);
      expect(ours.references).toEqual(theirs.references);
      expect([ours.logicalBlocks, ours.pages]).toEqual([theirs.logicalBlocks, theirs.pages]);
    });

    test("are sound to the kernel's tools, and hold for the kernel what they hold for us", async () => {
      const guest = await runGuest({
        disks: images,
        timeoutSeconds: 240,
        script: `${TABLE}
          ${CASES.map(
            ({ name }, i) => `audit ${device(i)} 2>&1; ${start(i)}; ${sums(i)}
              discard_blocks /dev/mapper/${name} 0 512; vdo_stop ${name}; audit ${device(i)} 2>&1`,
          ).join("\n")}`,
      });
      expect(guest.output.match(/All pbn references matched/g), guest.output).toHaveLength(2 * CASES.length);
      expect(sumLines(guest.output)).toEqual(ourSums);
      const both = ourSums.filter((line) => !line.startsWith("sum again"));
      expect(sumLines(kernels.output), "what the kernel read after its own recovery").toEqual(both);
    });
  },
  { describe, test },
);
