/**
 * Our volumes after a crash, of the process or of the power, are recovered by the kernel: everything durable is there, the
 * kernel's audit is clean, and the kernel makes of them what we make of them.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createRequire } from "node:module";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath, pathToFileURL } from "node:url";
import type { Random } from "@vdo/base";
import { FileDevice } from "@vdo/block-device";
import { SimulatedDisk } from "@vdo/block-device/testing";
import { format, VdoVolume } from "@vdo/kvdo";
import { NbdClient } from "@vdo/nbd";
import { describeWithKernel, runGuest } from "@vdo/oracle";
import { afterAll, describe, expect, test } from "vitest";
import { BLOCK } from "./support/content.ts";
import { CrashLoad } from "./support/crash-load.ts";
import { metadataOf } from "./support/metadata.ts";
import type { Versions } from "./support/versions.ts";
import { Workplace } from "./support/workplace.ts";

const PHYSICAL_BLOCKS = 679_127 + 2 + 60 + 64 + 32_768 + 4 * 8192;
const FORMAT = { logicalSize: 2 * 2 ** 30, slabBits: 13, indexMemory: 0.25 } as const;
/** Where the load writes: many blocks of a few leaves, and a few of others. */
const NEAR = { start: 0, count: 1536 };
const FAR = { start: 100_000, count: 256 };
const pick = (random: Random): number =>
  random.chance(0.9) ? NEAR.start + random.below(NEAR.count) : FAR.start + random.below(FAR.count);

interface Crashed {
  name: string;
  path: string;
  versions: Versions;
}

/** Storage cut at a simulated point: what was not flushed is lost, torn or kept as `seed` says. */
async function cutStorage(workplace: Workplace, seed: number): Promise<Crashed> {
  const disk = new SimulatedDisk({ blockCount: PHYSICAL_BLOCKS, seed });
  await format(disk, FORMAT);
  const options = { deduplication: false, maximumAge: 2, blockMapCacheBlocks: 128, dataVios: 256 };
  const volume = await VdoVolume.open(disk, options);
  const load = new CrashLoad(volume, seed);
  const cut = disk.cutAfter(disk.completed + 3000 + seed * 1111);
  await load.run(pick);
  await cut;
  await volume.close().catch(() => undefined);
  expect(load.flushes).toBeGreaterThan(3);
  const path = await workplace.imageOf(`cut-${seed}.img`, disk.crash(seed));
  return { name: `cut${seed}`, path, versions: load.versions };
}

/** A process that serves a volume over NBD, killed while clients are at work. */
async function killServer(workplace: Workplace): Promise<Crashed> {
  const path = workplace.image("killed.img", PHYSICAL_BLOCKS * BLOCK);
  const device = await FileDevice.open({ path });
  await format(device, FORMAT);
  await device.close();
  const socket = `${path}.sock`;
  const child = serve(path, socket);
  await once(child.stdout as NodeJS.ReadableStream, "data");
  const clients = await Promise.all([1, 2].map(() => NbdClient.connect(`nbd+unix:///v?socket=${socket}`)));
  const load = new CrashLoad(clients[0] as NbdClient, 77);
  const running = load.run(pick);
  // Another client keeps the volume busy elsewhere.
  const other = new CrashLoad(clients[1] as NbdClient, 78).run((random) => 200_000 + random.below(4000));
  await pause(2500);
  child.kill("SIGKILL");
  await Promise.all([once(child, "exit"), running, other]);
  await Promise.all(clients.map((client) => client.close().catch(() => undefined)));
  expect(load.flushes).toBeGreaterThan(3);
  return { name: "killed", path, versions: load.versions };
}

function serve(path: string, socket: string): ChildProcess {
  const loader = pathToFileURL(createRequire(import.meta.url).resolve("tsx")).href;
  const script = fileURLToPath(new URL("./support/serve-volume.ts", import.meta.url));
  const words = ["--conditions=@vdo/source", "--import", loader, script, path, socket];
  return spawn(process.execPath, words, {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, NODE_OPTIONS: "" },
  });
}

/** A device of the two areas that the guest read. */
function dumped(near: Uint8Array, far: Uint8Array): Pick<VdoVolume, "read"> {
  return {
    async read(start, target) {
      const [from, base] = start < FAR.start ? [near, NEAR.start] : [far, FAR.start];
      target.set(from.subarray((start - base) * BLOCK, (start - base) * BLOCK + target.length));
    },
  };
}

describeWithKernel(
  "volumes of ours that crashed",
  () => {
    const workplace = new Workplace();
    afterAll(() => workplace.remove());

    test("are recovered by the kernel as by us", async () => {
      const crashed = [await killServer(workplace)];
      for (const seed of [1, 2, 3]) crashed.push(await cutStorage(workplace, seed));
      const copies = crashed.map(({ name, path }) => workplace.copy(`${name}.copy.img`, path));
      const device = (i: number): string => `/dev/vd${"abcd"[i]}`;
      const dump = (name: string, { start, count }: typeof NEAR, file: string): string =>
        `dd if=/dev/mapper/${name} of=${file} bs=64k skip=$((${start} * 4096)) count=$((${count} * 4096)) iflag=direct,skip_bytes,count_bytes 2> /dev/null`;
      const guest = await runGuest({
        disks: crashed.map(({ path }) => path),
        collect: crashed.flatMap(({ name }) => [`${name}.near`, `${name}.far`]),
        timeoutSeconds: 240,
        script: crashed
          .map(
            ({ name }, i) => `vdo_start ${name} ${device(i)} deduplication off
              while dmsetup status ${name} | grep -q recovering; do sleep 0.2; done
              dmsetup status ${name}
              ${dump(name, NEAR, `${name}.near`)}
              ${dump(name, FAR, `${name}.far`)}
              vdo_stop ${name}
              audit ${device(i)} 2>&1`,
          )
          .join("\n"),
      });
      expect(guest.output.match(/All pbn references matched/g), guest.output + guest.kernelLog).toHaveLength(4);
      expect(guest.output).not.toContain("read-only");
      for (const [i, { name, path, versions }] of crashed.entries()) {
        const file = (part: string): Uint8Array => guest.files.get(`${name}.${part}`) ?? new Uint8Array();
        const { wrong } = await versions.check(dumped(file("near"), file("far")));
        expect(wrong, `${name}: blocks that hold what was never theirs, in the kernel`).toEqual([]);
        await workplace.withVolume(copies[i] as string, { deduplication: false }, async (volume) => {
          expect((await versions.check(volume)).wrong, `${name}: here`).toEqual([]);
        });
        const ours = await metadataOf(copies[i] as string);
        expect(ours, name).toMatchObject({ state: "CLEAN", problems: [], notes: [] });
        const theirs = await metadataOf(path);
        expect(theirs, name).toMatchObject({ state: "CLEAN", problems: [] });
        expect([ours.mappings, ours.references], name).toEqual([theirs.mappings, theirs.references]);
      }
    });
  },
  { describe, test },
);
