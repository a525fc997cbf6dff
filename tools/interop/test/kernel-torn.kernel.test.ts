/**
 * The kernel's volume on a disk that keeps its promises about flush and nothing else: after the power cut any subset of the
 * sectors of what was not flushed is there, other versions of them, or torn blocks. We recover what is left, and so does the
 * kernel from a copy: everything durable is there, and both make the same block map and the same counts of it.
 */
import type { BlockDevice } from "@vdo/block-device";
import { SimulatedDisk } from "@vdo/block-device/testing";
import { NbdServer } from "@vdo/nbd";
import { describeWithKernel, runGuest } from "@vdo/oracle";
import { afterAll, describe, expect, test } from "vitest";
import { sumLines } from "./support/area.ts";
import { BLOCK, content, sha256 } from "./support/content.ts";
import { metadataOf } from "./support/metadata.ts";
import { Versions } from "./support/versions.ts";
import { Workplace } from "./support/workplace.ts";

const DATA = content(47, 3072);
const part = (first: number, count: number): Uint8Array => DATA.subarray(first * BLOCK, (first + count) * BLOCK);

const PHYSICAL_BLOCKS = 679_127 + 2 + 60 + 64 + 32_768 + 5 * 8192;
/** Of one run several disks can be left. */
const CRASHES = [1, 2, 3];
const AREAS = [
  { start: 0, count: 1024 },
  { start: 300_000, count: 512 },
  { start: 700_000, count: 1024 },
];

const start = (name: string, device: string): string =>
  `dmsetup create ${name} --table "0 $(($(vdo_logical ${device}) * 8)) vdo V4 ${device} $(vdo_physical ${device}) 4096 4096 2 deduplication off compression on"`;

/** What the kernel does before the cut: durable writes, then overwrites, discards and flushes until the power goes. */
const SCRIPT = `
  vdoformat --force --logical-size=8G --slab-bits=13 /dev/vda > /dev/null; ${start("v", "/dev/vda")}
  copy_blocks /dev/vdb 0 /dev/mapper/v 0 1024
  copy_blocks /dev/vdb 1024 /dev/mapper/v 300000 512
  discard_blocks /dev/mapper/v 300000 64; sync /dev/mapper/v
  again() { while :; do dd if=/dev/vdb of=/dev/mapper/v bs=$4 skip=$(($1 * 4096)) seek=$(($2 * 4096)) count=$(($3 * 4096)) \\
    iflag=skip_bytes,count_bytes oflag=direct,seek_bytes conv=notrunc$5 2> /dev/null; done; }
  again 2048 0 1024 4k & again 1024 0 1024 64k & again 0 700000 1024 4k ,fsync &
  while :; do discard_blocks /dev/mapper/v 600 200; done &
  sleep 1; dd if=/dev/zero of=/dev/vdc bs=4096 count=1 oflag=direct 2> /dev/null
  sleep 4; cut_power`;
/** Requests that the disk completes between the guest's signal, which is a write to /dev/vdc, and the cut. */
const CUT_AFTER = 700;

function expectedVersions(): Versions {
  const versions = new Versions();
  versions.durable(0, part(0, 1024));
  versions.durable(300_000, part(1024, 512));
  versions.zeros({ start: 300_000, count: 64 });
  versions.maybe(0, part(2048, 1024));
  versions.maybe(0, part(1024, 1024));
  versions.maybeZeros({ start: 600, count: 200 });
  versions.maybe(700_000, part(0, 1024));
  return versions;
}

/** A disk that holds nothing: a write to it tells that the guest is where it should be. */
function signalDisk(onWrite: () => void): BlockDevice {
  return {
    ...{ blockSize: BLOCK, blockCount: 256 },
    read: async (_start, target) => void target.fill(0),
    write: async () => onWrite(),
    flush: async () => undefined,
    close: async () => undefined,
  };
}

/** Runs the kernel's volume on `disk`, served over NBD, and cuts its power while it is at work. */
async function runKernelOn(disk: SimulatedDisk, workplace: Workplace): Promise<string> {
  const signal = signalDisk(() => void disk.cutAfter(disk.completed + CUT_AFTER));
  const server = new NbdServer({
    exports: [
      { name: "disk", device: disk },
      { name: "signal", device: signal },
    ],
  });
  const path = workplace.path("disk.sock");
  await server.listen({ path });
  const uri = (name: string): string => `nbd+unix:///${name}?socket=${path}`;
  try {
    const guest = await runGuest({
      disks: [uri("disk"), { path: workplace.dataImage("data.img", DATA), readOnly: true }, uri("signal")],
      timeoutSeconds: 240,
      script: SCRIPT,
    });
    expect(guest.timedOut, guest.output).toBe(false);
    expect(guest.exitCode, guest.output).toBe(null);
    return guest.output;
  } finally {
    await server.close();
  }
}

describeWithKernel(
  "a kernel's volume whose disk lost, tore and reordered what was not flushed",
  () => {
    const workplace = new Workplace();
    afterAll(() => workplace.remove());

    test("is recovered here as by the kernel", async () => {
      const disk = new SimulatedDisk({ blockCount: PHYSICAL_BLOCKS, seed: 11, batchMax: 64 });
      const said = await runKernelOn(disk, workplace);
      expect(disk.isCut, said).toBe(true);
      expect(disk.volatileWrites, said).toBeGreaterThan(0);
      const images: { ours: string; theirs: string; sums: string[] }[] = [];
      for (const seed of CRASHES) {
        const theirs = await workplace.imageOf(`crash-${seed}.img`, disk.crash(seed));
        const ours = workplace.copy(`crash-${seed}.copy.img`, theirs);
        expect((await metadataOf(ours)).state, said).toBe("DIRTY");
        const sums: string[] = [];
        await workplace.withVolume(ours, { deduplication: false }, async (volume) => {
          expect(
            (await expectedVersions().check(volume)).wrong,
            `crash ${seed}: blocks that hold what was never theirs`,
          ).toEqual([]);
          for (const { start: at, count } of AREAS) {
            const bytes = new Uint8Array(count * BLOCK);
            await volume.read(at, bytes);
            sums.push(`sum ${seed} ${at} ${sha256(bytes)}`);
          }
        });
        images.push({ ours, theirs, sums });
      }
      const guest = await runGuest({
        disks: images.map(({ theirs }) => theirs),
        timeoutSeconds: 240,
        script: CRASHES.map((seed, i) => {
          const device = `/dev/vd${"abc"[i]}`;
          const sums = AREAS.map(
            ({ start: at, count }) => `echo "sum ${seed} ${at} $(blocks_sum /dev/mapper/c${seed} ${at} ${count})"`,
          );
          return `${start(`c${seed}`, device)}; while dmsetup status c${seed} | grep -q recovering; do sleep 0.2; done
            ${sums.join("\n")}
            vdo_stop c${seed}; audit ${device} 2>&1`;
        }).join("\n"),
      });
      expect(guest.output.match(/All pbn references matched/g), guest.output + guest.kernelLog).toHaveLength(
        CRASHES.length,
      );
      expect(sumLines(guest.output)).toEqual(images.flatMap(({ sums }) => sums));
      for (const { ours, theirs } of images) {
        const here = await metadataOf(ours);
        expect(here).toMatchObject({ state: "CLEAN", problems: [], notes: [] });
        const there = await metadataOf(theirs);
        expect(there).toMatchObject({ state: "CLEAN", problems: [] });
        expect([here.mappings, here.references]).toEqual([there.mappings, there.references]);
      }
    });
  },
  { describe, test },
);
