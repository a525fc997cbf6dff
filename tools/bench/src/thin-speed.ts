/**
 * Thin devices over NBD: 4 KiB random writes to a fresh one and to one that was just snapshotted, beside qemu-nbd with a raw image
 * and with qcow2, whose overlay on a backing file is its snapshot. Every round writes a part that nobody has written before, so each
 * write of 4 KiB provisions or copies 64 KiB, in ours and in qcow2 alike.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { FileDevice, MemoryDevice } from "@vdo/block-device";
import { ThinPool } from "@vdo/thin";
import { runFio } from "./fio.ts";
import { type Spread, spreadOf } from "./median.ts";
import { cpuSeconds } from "./process-figures.ts";
import { type Served, serve, stop } from "./servers.ts";
import { align } from "./table.ts";

/** What is written to. */
type Kind = "fresh" | "snapshotted";

const MIB = 1 << 20;
/** What one round writes to. */
const PART_MIB = 128;
/** Rounds before those that count, of all servers: a JavaScript engine compiles what has become hot, here in about a second. */
const WARM_UP_ROUNDS = 4;
/** Writes of a round: two for each data block of its part. */
const WRITES = (2 * PART_MIB * MIB) / 65_536;

export interface ThinRow {
  workload: string;
  server: string;
  rate: Spread;
  /** To the raw image, within each round. */
  toRaw: Spread;
  /** Microseconds of CPU of the server for each write. */
  cpu: number;
}

export interface ThinFigures {
  rows: ThinRow[];
  /** Microseconds of a random read of 4 KiB in process, at snapshot depth 1 and 100. */
  lookup: { shallow: Spread; deep: Spread; ratio: Spread };
}

interface Options {
  folder: string;
  rounds: number;
  say(text: string): void;
}

function run(program: string, ...words: string[]): void {
  const result = spawnSync(program, words, { encoding: "utf8" });
  if (result.status !== 0) throw new Error(`${program} ${words.join(" ")}: ${result.stderr ?? result.error?.message}`);
}

function sparse(path: string, bytes: number): string {
  writeFileSync(path, "");
  truncateSync(path, bytes);
  return path;
}

const fill = (bytes: number): Uint8Array => new Uint8Array(bytes).fill(0x5a);

/** A pool with device 0: empty, or full and with the snapshot 1. */
async function makePool(folder: string, kind: Kind, sizeMib: number): Promise<{ metadata: string; data: string }> {
  const metadata = sparse(join(folder, "metadata"), 64 * MIB);
  const data = sparse(join(folder, "data"), (2 * sizeMib + 64) * MIB);
  const [metadataDevice, dataDevice] = [
    await FileDevice.open({ path: metadata }),
    await FileDevice.open({ path: data }),
  ];
  const pool = await ThinPool.open({ metadata: metadataDevice, data: dataDevice, blockSectors: 128 });
  await pool.createThin(0);
  if (kind === "snapshotted") {
    const volume = await pool.volume({ id: 0, sectors: sizeMib * 2048 });
    for (let at = 0; at < sizeMib; at += 4) await volume.write(at * 256, fill(4 * MIB));
    await volume.close();
    await pool.createSnapshot(1, 0);
  }
  await pool.close();
  await metadataDevice.close();
  await dataDevice.close();
  return { metadata, data };
}

/** A raw image and a qcow2 image, both full or both empty; a full one of qcow2 has an overlay. */
function makeImages(folder: string, kind: Kind, sizeMib: number): { raw: string; qcow2: string } {
  const raw = sparse(join(folder, "raw"), sizeMib * MIB);
  const qcow2 = join(folder, "qcow2");
  if (kind === "fresh") {
    run("qemu-img", "create", "-q", "-f", "qcow2", qcow2, `${sizeMib}M`);
    return { raw, qcow2 };
  }
  const base = join(folder, "base.qcow2");
  run("qemu-img", "create", "-q", "-f", "qcow2", base, `${sizeMib}M`);
  for (const [format, path] of [
    ["raw", raw],
    ["qcow2", base],
  ] as const) {
    run("qemu-io", "-f", format, "-c", `write -q -P 0x5a 0 ${sizeMib}M`, path);
  }
  run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, qcow2);
  return { raw, qcow2 };
}

interface Target {
  name: string;
  uri: string;
  pid: number;
}

async function measureTargets(kind: Kind, targets: readonly Target[], { rounds, say }: Options): Promise<ThinRow[]> {
  const workload = `4k random writes, ${kind}`;
  const rates = targets.map(() => [] as number[]);
  const cpu = targets.map(() => 0);
  let seed = 1;
  for (let part = 0; part < WARM_UP_ROUNDS + rounds; part++) {
    const round = part - WARM_UP_ROUNDS;
    say(`${workload}, ${round < 0 ? "warming up" : `round ${round + 1}`}`);
    for (let i = 0; i < targets.length; i++) {
      const at = (part + i) % targets.length;
      const options = [
        ...["--rw=randwrite", "--bs=4k", "--iodepth=32", "--norandommap", "--refill_buffers"],
        ...[`--offset=${part * PART_MIB}m`, `--size=${PART_MIB}m`, `--io_size=${WRITES * 4}k`],
      ];
      const { uri, pid } = targets[at] as Target;
      const before = cpuSeconds(pid);
      const { operations, seconds } = await runFio({ uri, options, seed: seed++ });
      if (round < 0) continue;
      cpu[at] = (cpu[at] as number) + ((cpuSeconds(pid) - before) * 1e6) / (rounds * operations);
      rates[at]?.push(operations / Math.max(seconds, 0.001));
    }
  }
  const raw = rates[0] as number[];
  return targets.map(({ name }, i) => {
    const own = rates[i] as number[];
    const toRaw = spreadOf(own.map((rate, round) => rate / (raw[round] as number)));
    return { workload, server: name, rate: spreadOf(own), toRaw, cpu: cpu[i] as number };
  });
}

/** One workload on a pool and images of its own, which are gone afterwards: in a tmpfs they are memory. */
async function measureWorkload(kind: Kind, options: Options): Promise<ThinRow[]> {
  const folder = join(options.folder, kind);
  mkdirSync(folder);
  const sizeMib = (WARM_UP_ROUNDS + options.rounds) * PART_MIB;
  options.say(`making a pool and images, ${kind}`);
  const { metadata, data } = await makePool(folder, kind, sizeMib);
  const { raw, qcow2 } = makeImages(folder, kind, sizeMib);
  const servers: Served[] = [];
  const start = async (name: string, program: string, words: readonly string[], socket: string): Promise<Target> => {
    const served = await serve(program, [...words], socket);
    servers.push(served);
    return { name, uri: served.uri, pid: served.child.pid as number };
  };
  const qemu = (name: string, format: string, path: string): Promise<Target> => {
    const socket = join(folder, `${format}.sock`);
    return start(name, "qemu-nbd", ["-f", format, "-t", "-e", "16", "-k", socket, path], socket);
  };
  try {
    const socket = join(folder, "thin.sock");
    const script = fileURLToPath(new URL("./serve-thin.ts", import.meta.url));
    const node = ["--conditions=@vdo/source", "--import", "tsx", script];
    const targets = [
      await qemu("qemu-nbd raw", "raw", raw),
      await qemu(kind === "fresh" ? "qemu-nbd qcow2" : "qemu-nbd qcow2, backing file", "qcow2", qcow2),
      await start("thin", process.execPath, [...node, socket, metadata, data, String(sizeMib * 2048)], socket),
    ];
    (targets[2] as Target).uri = `nbd+unix:///0?socket=${socket}`;
    return await measureTargets(kind, targets, options);
  } finally {
    for (const server of servers) await stop(server);
    rmSync(folder, { recursive: true });
  }
}

export async function measureThin(options: Options): Promise<ThinFigures> {
  const rows = [...(await measureWorkload("fresh", options)), ...(await measureWorkload("snapshotted", options))];
  options.say("look-ups at depth 1 and 100");
  return { rows, lookup: await measureLookups(options.rounds) };
}

const LOOKUPS = 20_000;

/** Random reads of a device with one snapshot above it, and of the last of a hundred snapshots of each other. */
async function measureLookups(rounds: number): Promise<ThinFigures["lookup"]> {
  const [metadata, data] = [new MemoryDevice({ blockCount: 8192 }), new MemoryDevice({ blockCount: 16 * 4096 })];
  const pool = await ThinPool.open({ metadata, data, blockSectors: 128 });
  await pool.createThin(0);
  const sectors = 2048 * 128;
  const origin = await pool.volume({ id: 0, sectors });
  for (let at = 0; at < 2048; at += 64) await origin.write(at * 16, fill(4 * MIB));
  for (let id = 1; id <= 100; id++) {
    await pool.createSnapshot(id, id - 1);
    const one = await pool.volume({ id, sectors });
    await one.write(((id * 37) % 2048) * 16, fill(65_536));
    await one.close();
  }
  const volumes = [await pool.volume({ id: 1, sectors }), await pool.volume({ id: 100, sectors })];
  const times: [number[], number[]] = [[], []];
  const target = new Uint8Array(4096);
  for (let round = 0; round < 2 * rounds + 1; round++) {
    for (const [i, volume] of volumes.entries()) {
      const began = process.cpuUsage();
      for (let n = 0; n < LOOKUPS; n++) await volume.read((n * 7919) % volume.blockCount, target);
      const { user, system } = process.cpuUsage(began);
      if (round > 0) times[i]?.push((user + system) / LOOKUPS);
    }
  }
  for (const volume of [...volumes, origin]) await volume.close();
  await pool.close();
  const [shallow, deep] = times;
  const ratio = spreadOf(deep.map((time, round) => time / (shallow[round] as number)));
  return { shallow: spreadOf(shallow), deep: spreadOf(deep), ratio };
}

export function thinTable({ rows, lookup }: ThinFigures): string {
  const spread = ({ low, high }: Spread): string => `${low.toFixed(2)}-${high.toFixed(2)}`;
  const lines = [["workload", "server", "op/s", "ratio to qemu-nbd raw", "spread", "CPU µs/op"]];
  for (const { workload, server, rate, toRaw, cpu } of rows) {
    lines.push([
      workload,
      server,
      Math.round(rate.median).toLocaleString("en-US"),
      toRaw.median.toFixed(2),
      spread(toRaw),
      cpu.toFixed(1),
    ]);
  }
  lines.push([
    "read at snapshot depth 1",
    "in process",
    `${lookup.shallow.median.toFixed(2)} µs`,
    "",
    spread(lookup.shallow),
  ]);
  lines.push([
    "read at snapshot depth 100",
    "in process",
    `${lookup.deep.median.toFixed(2)} µs`,
    "",
    spread(lookup.deep),
  ]);
  lines.push(["depth 100 to depth 1", "", lookup.ratio.median.toFixed(2), "", spread(lookup.ratio)]);
  return align(lines);
}
