/** Stacks of one and of ten deltas: ours, and qemu-nbd with its driver `parallels`, beside a raw image of the same content. */
import { copyFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Random } from "@vdo/base";
import { createImage, NodeFile, PloopDevice } from "@vdo/ploop";
import { runFio } from "./fio.ts";
import { spreadOf } from "./median.ts";
import { type Served, serve, stop } from "./servers.ts";

const MIB = 1 << 20;
const SIZE_MIB = 512;
const HEIGHTS = [1, 10] as const;

const WORKLOADS: readonly { name: string; fio: readonly string[] }[] = [
  { name: "sequential read 64k", fio: ["--rw=read", "--bs=64k", "--iodepth=16"] },
  { name: "random read 4k, depth 1", fio: ["--rw=randread", "--bs=4k", "--iodepth=1", "--norandommap"] },
  { name: "random read 4k, depth 32", fio: ["--rw=randread", "--bs=4k", "--iodepth=32", "--norandommap"] },
  { name: "sequential write 64k", fio: ["--rw=write", "--bs=64k", "--iodepth=16"] },
  { name: "random write 4k, depth 32", fio: ["--rw=randwrite", "--bs=4k", "--iodepth=32", "--norandommap"] },
];

export interface PloopRow {
  height: number;
  workload: string;
  /** Operations a second: median over the rounds. */
  ours: number;
  parallels: number;
  raw: number;
}

/** Makes a stack whose clusters are spread over all of its deltas, and a raw image of the same content. */
async function makeStack(folder: string, height: number): Promise<{ deltas: string[]; raw: string }> {
  mkdirSync(folder, { recursive: true });
  const random = new Random(height);
  const raw = join(folder, "raw.img");
  const plain = await NodeFile.open(raw, "wx+");
  await plain.setLength(SIZE_MIB * MIB);
  const deltas: string[] = [];
  const data = new Uint8Array(MIB);
  for (let level = 0; level < height; level++) {
    const path = join(folder, `delta${level}.hds`);
    const file = await NodeFile.open(path, "wx+");
    await createImage(file, { version: 2, sizeSectors: SIZE_MIB * 2048, clusterSectors: 2048 });
    const device = await PloopDevice.open({ deltas: [{ file }] });
    for (let cluster = 0; cluster < SIZE_MIB; cluster++) {
      if (level > 0 && !random.chance(1 / height)) continue;
      random.fill(data.subarray(0, 4096));
      for (let at = 4096; at < MIB; at += 4096) data.copyWithin(at, 0, 4096);
      await device.write(cluster * 2048, data);
      await plain.write(cluster * MIB, data);
    }
    await device.close();
    deltas.push(path);
  }
  await plain.close();
  return { deltas, raw };
}

/** The three servers of one stack; each writes to a top of its own. */
async function startServers(folder: string, height: number): Promise<Served[]> {
  const { deltas, raw } = await makeStack(folder, height);
  const top = deltas.at(-1) as string;
  const theirTop = join(folder, "their-top.hds");
  copyFileSync(top, theirTop);
  const theirs = [...deltas.slice(0, -1), theirTop].reverse().map((path, depth) => {
    const prefix = "backing.".repeat(depth);
    return `${prefix}driver=parallels,${prefix}file.filename=${path}`;
  });
  const socket = (name: string): string => join(folder, `${name}.sock`);
  const script = fileURLToPath(new URL("./serve-ploop.ts", import.meta.url));
  const node = ["--conditions=@vdo/source", "--import", "tsx", script];
  const common = ["-t", "-e", "16"];
  return [
    await serve(process.execPath, [...node, socket("ours"), ...deltas], socket("ours")),
    await serve("qemu-nbd", [...common, "-k", socket("theirs"), "--image-opts", theirs.join(",")], socket("theirs")),
    await serve("qemu-nbd", [...common, "-k", socket("raw"), "-f", "raw", raw], socket("raw")),
  ];
}

/** Measures in rounds, each server after the other in slices. */
export async function measurePloop(
  folder: string,
  { rounds, sliceMilliseconds, say }: { rounds: number; sliceMilliseconds: number; say: (text: string) => void },
): Promise<PloopRow[]> {
  const rows: PloopRow[] = [];
  let seed = 1;
  for (const height of HEIGHTS) {
    say(`a stack of ${height}`);
    const servers = await startServers(join(folder, `ploop${height}`), height);
    try {
      for (const { name, fio } of WORKLOADS) {
        const rates: number[][] = [[], [], []];
        for (let round = 0; round < rounds; round++) {
          for (const [i, { uri }] of servers.entries()) {
            const options = [...fio, `--size=${SIZE_MIB}m`, "--refill_buffers"];
            const { operations, seconds } = await runFio({
              uri,
              options,
              seed: seed++,
              milliseconds: sliceMilliseconds,
            });
            rates[i]?.push(operations / seconds);
          }
        }
        const [ours, parallels, raw] = rates.map((list) => Math.round(spreadOf(list).median)) as [
          number,
          number,
          number,
        ];
        rows.push({ height, workload: name, ours, parallels, raw });
      }
    } finally {
      for (const server of servers) await stop(server);
    }
  }
  return rows;
}

/** The rows as a table of text. */
export function ploopTable(rows: readonly PloopRow[]): string {
  const line = (cells: readonly (string | number)[]): string =>
    cells.map((cell, i) => (i === 1 ? String(cell).padEnd(26) : String(cell).padStart(12))).join(" ");
  const ratio = (a: number, b: number): string => (a / b).toFixed(2);
  return [
    line(["deltas", "operations a second", "ours", "parallels", "raw", "to parallels", "to raw"]),
    ...rows.map(({ height, workload, ours, parallels, raw }) =>
      line([height, workload, ours, parallels, raw, ratio(ours, parallels), ratio(ours, raw)]),
    ),
  ].join("\n");
}
