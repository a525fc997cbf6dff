/**
 * What the recovery of a volume costs whose power went with its recovery journal as full as it becomes: on two sizes of the
 * storage, here, and by the kernel in the reference machine on the same image.
 *
 * The data themselves play no part in a recovery, so the storage keeps only metadata, and an image is small.
 */
import { truncateSync, writeFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { systemClock } from "@vdo/base";
import { type BlockDevice, checkRange, FileDevice } from "@vdo/block-device";
import { format, VdoVolume } from "@vdo/kvdo";
import { isOracleReady, runGuest } from "@vdo/oracle";

const BLOCK = 4096;
const GIB = 2 ** 30;
const SIZES = [8, 64];
/** First bytes of a block of data; no block of metadata begins with them. */
const MARK = 0x21d47adb;
const LOGICAL_BLOCKS = 2 ** 19;
const REQUEST_BLOCKS = 256;
/** The longest era there is: dirty pages of the block map are written when the journal is half full, 16,378 blocks later. */
const LONGEST_AGE = 22_855;
/** Entries written: as many as that leaves in the journal at most. */
const ENTRIES = 16_200 * 217;

export interface RecoveryFigures {
  gibibytes: number;
  journalEntries: number;
  /** Until the volume is online, and until its last slab is done. */
  onlineSeconds: number;
  doneSeconds: number;
  cpuSeconds: number;
  /** The kernel's time until it is online, emulated; undefined where there is no reference machine. */
  kernelSeconds: number | undefined;
}

/** Storage in memory that forgets blocks of marked data: they read as zeros. */
class MetadataStore implements BlockDevice {
  readonly blockSize = BLOCK;
  readonly blockCount: number;
  readonly blocks: Map<number, Uint8Array>;

  constructor(blockCount: number, blocks = new Map<number, Uint8Array>()) {
    this.blockCount = blockCount;
    this.blocks = blocks;
  }

  async read(start: number, target: Uint8Array): Promise<void> {
    checkRange(this, start, target.length);
    for (let at = 0; at < target.length; at += BLOCK) {
      const block = this.blocks.get(start + at / BLOCK);
      if (block === undefined) target.fill(0, at, at + BLOCK);
      else target.set(block, at);
    }
  }

  async write(start: number, source: Uint8Array): Promise<void> {
    checkRange(this, start, source.length);
    const words = new DataView(source.buffer, source.byteOffset, source.byteLength);
    for (let at = 0; at < source.length; at += BLOCK) {
      if (words.getUint32(at, true) === MARK) this.blocks.delete(start + at / BLOCK);
      else this.blocks.set(start + at / BLOCK, source.slice(at, at + BLOCK));
    }
  }

  async flush(): Promise<void> {}
  async close(): Promise<void> {}
}

/** A volume whose power went: what is on its storage. */
async function crashedVolume(gibibytes: number): Promise<MetadataStore> {
  const device = new MetadataStore((gibibytes * GIB) / BLOCK);
  await format(device, { logicalSize: LOGICAL_BLOCKS * BLOCK, indexMemory: 0.25 });
  const volume = await VdoVolume.open(device, {
    deduplication: false,
    compression: false,
    maximumAge: LONGEST_AGE,
  });
  const bytes = new Uint8Array(REQUEST_BLOCKS * BLOCK).fill(0x5a);
  const words = new Uint32Array(bytes.buffer);
  for (let entry = 0, request = 0; entry < ENTRIES; entry += REQUEST_BLOCKS, request++) {
    for (let i = 0; i < REQUEST_BLOCKS; i++) {
      words[(i * BLOCK) / 4] = MARK;
      words[(i * BLOCK) / 4 + 1] = entry + i;
    }
    // 2654435761 is odd: every place of the logical space comes, in a mixed order.
    const place = Math.imul(request, 2_654_435_761) >>> 21;
    await volume.write(place * REQUEST_BLOCKS, bytes);
  }
  await volume.flush();
  const left = new MetadataStore(device.blockCount, new Map(device.blocks));
  await volume.close();
  return left;
}

async function recoverHere(device: MetadataStore): Promise<Omit<RecoveryFigures, "gibibytes" | "kernelSeconds">> {
  const copy = new MetadataStore(device.blockCount, new Map(device.blocks));
  let journalEntries = 0;
  const began = systemClock.now();
  const cpu = process.cpuUsage();
  const volume = await VdoVolume.open(copy, {
    deduplication: false,
    log: (_level, text) => {
      journalEntries += Number(/replaying (\d+) recovery entries/.exec(text)?.[1] ?? 0);
    },
  });
  const onlineSeconds = (systemClock.now() - began) / 1000;
  while (volume.status().recovering) await pause(5);
  const doneSeconds = (systemClock.now() - began) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  await volume.close();
  return { journalEntries, onlineSeconds, doneSeconds, cpuSeconds: (user + system) / 1e6 };
}

/** Seconds until dm-vdo has the volume online, from the guest's own clock. */
async function recoverInKernel(device: MetadataStore, path: string): Promise<number | undefined> {
  if (!isOracleReady()) return undefined;
  writeFileSync(path, "");
  truncateSync(path, device.blockCount * BLOCK);
  const file = await FileDevice.open({ path });
  for (const [number, block] of device.blocks) await file.write(number, block);
  await file.close();
  const { output } = await runGuest({
    disks: [path],
    timeoutSeconds: 300,
    memoryMiB: 3072,
    script: `from=$(cut -d ' ' -f 1 /proc/uptime)
      vdo_start v /dev/vda deduplication off || exit 1
      echo "took $from $(cut -d ' ' -f 1 /proc/uptime)"
      vdo_stop v`,
  });
  const [, from = "", to = ""] = /^took ([\d.]+) ([\d.]+)$/m.exec(output) ?? [];
  return from === "" ? undefined : Number(to) - Number(from);
}

/** Measures every size; images for the reference machine are made at `path`. */
export async function measureRecovery(path: (name: string) => string, say: (text: string) => void) {
  const figures: RecoveryFigures[] = [];
  for (const gibibytes of SIZES) {
    say(`recovery: filling the journal of a volume on ${gibibytes} GiB`);
    const crashed = await crashedVolume(gibibytes);
    say(`recovery: here, and in the reference machine`);
    const here = await recoverHere(crashed);
    const kernelSeconds = await recoverInKernel(crashed, path(`recovery-${gibibytes}.img`));
    figures.push({ gibibytes, ...here, kernelSeconds });
  }
  return figures;
}
