/**
 * Speed and memory of a volume against qemu-nbd and nbdkit, all served at the same time from one tmpfs.
 *
 *   npm run bench -- [--quick] [--rounds N] [--only PART-OF-A-WORKLOAD'S-NAME | index | ploop | thin | trees | recovery] [--servers A,B] [--output FILE]
 *
 * Prints one table and writes bench-results/TIME.json. Needs fio, qemu-utils and nbdkit; a full run takes about ten
 * minutes, a quick one about two. The method is in tools/bench/README.md.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, statfsSync, truncateSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { requirePrograms } from "@vdo/block-device/testing";
import { type IndexFigures, measureIndex } from "./index-speed.ts";
import { PEER_NAMES, type Peer, type PeerName, startPeer } from "./peers.ts";
import { measurePloop, type PloopRow, ploopTable } from "./ploop-speed.ts";
import { peakMebibytes } from "./process-figures.ts";
import { measureRecovery, type RecoveryFigures } from "./recovery-cost.ts";
import { type DiscardFigures, measureFullDiscard, measureRounds, type Row } from "./rounds.ts";
import { indexTable, memoryTable, recoveryTable, rowsTable } from "./table.ts";
import { measureThin, type ThinFigures, thinTable } from "./thin-speed.ts";
import { measureThinTools, type ThinToolFigures, thinToolsTable } from "./thin-tools-speed.ts";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const TMPFS_MAGIC = 0x01021994;

function say(text: string): void {
  console.error(`bench: ${text}`);
}

/** /dev/shm where it is a tmpfs; else the folder for temporary files, with a warning. */
function storageFolder(): string {
  try {
    if (statfsSync("/dev/shm").type === TMPFS_MAGIC) return mkdtempSync("/dev/shm/vdo-bench-");
  } catch {
    // no /dev/shm here
  }
  say("no tmpfs at /dev/shm: the disk takes part in the figures");
  return mkdtempSync(join(tmpdir(), "vdo-bench-"));
}

interface Results {
  rows: Row[];
  peaks: Map<string, number>;
  discard: DiscardFigures | undefined;
  index: IndexFigures | undefined;
  ploop: PloopRow[];
  recovery: RecoveryFigures[];
  thin: ThinFigures | undefined;
  thinTools: ThinToolFigures | undefined;
}

/** Trees of @vdo/persistent-data, which print their own table. */
function measureTrees(count: number, say: (text: string) => void): void {
  say(`trees of ${count} entries`);
  const script = join(root, "packages/persistent-data/bench/tree-speed.ts");
  const words = ["--conditions=@vdo/source", "--import", "tsx", script, String(count)];
  const { status } = spawnSync(process.execPath, words, { stdio: "inherit" });
  if (status !== 0) throw new Error(`${script} ended with ${status}`);
}

interface Settings {
  quick: boolean;
  rounds: number;
  only: string | undefined;
  servers: readonly PeerName[];
}

/** Runs `body` with a folder of its own, whose files, which take memory in a tmpfs, are gone afterwards. */
async function inFolder<T>(parent: string, body: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(parent, "part-"));
  try {
    return await body(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function measure(folder: string, settings: Settings): Promise<Results> {
  const results: Results = {
    rows: [],
    peaks: new Map(),
    discard: undefined,
    index: undefined,
    ploop: [],
    recovery: [],
    thin: undefined,
    thinTools: undefined,
  };
  const { quick, rounds, only } = settings;
  if (only === undefined || only === "index") {
    say("index: new and known names");
    const file = join(folder, "index.img");
    writeFileSync(file, "");
    truncateSync(file, 4 * 2 ** 30);
    results.index = await measureIndex(file, quick ? 16 : 64);
    rmSync(file);
  }
  if (only === "index") return results;
  if (only === undefined || only === "ploop") {
    const slices = { rounds, sliceMilliseconds: quick ? 400 : 800, say };
    results.ploop = await inFolder(folder, (part) => measurePloop(part, slices));
  }
  if (only === "ploop") return results;
  if (only === undefined || only === "thin") {
    const slices = { rounds: quick ? 3 : 7, say };
    results.thin = await inFolder(folder, (part) => measureThin({ ...slices, folder: part }));
    const tools = { mappings: quick ? 100_000 : 1_000_000, rounds: quick ? 1 : 3, say };
    results.thinTools = await inFolder(folder, (part) => measureThinTools({ ...tools, folder: part }));
  }
  if (only === "thin") return results;
  if (only === undefined || only === "trees") measureTrees(quick ? 100_000 : 1_000_000, say);
  if (only === "trees") return results;
  if (only === "recovery") {
    results.recovery = await measureRecovery((name) => join(folder, name), say);
    return results;
  }
  const peers: Peer[] = [];
  try {
    for (const name of settings.servers) {
      say(`starting ${name}`);
      peers.push(await startPeer(name, folder));
    }
    results.rows = await measureRounds(peers, { rounds, sliceMilliseconds: quick ? 400 : 800, only, say });
    if (!quick && only === undefined) {
      say("discard of 10 GiB that are mapped");
      results.discard = await measureFullDiscard(peers);
    }
    for (const peer of peers) results.peaks.set(peer.name, peakMebibytes(peer.pid));
  } finally {
    for (const peer of peers) await peer.stop();
  }
  return results;
}

function readSettings(): Settings & { output: string | undefined } {
  const { values } = parseArgs({
    options: {
      quick: { type: "boolean", default: false },
      rounds: { type: "string" },
      only: { type: "string" },
      servers: { type: "string" },
      output: { type: "string" },
    },
  });
  const wanted = values.servers?.split(",");
  const servers = PEER_NAMES.filter((name) => wanted === undefined || wanted.includes(name));
  const rounds = Number(values.rounds ?? (values.quick ? 2 : 5));
  if (!Number.isInteger(rounds) || rounds < 1) throw new Error(`--rounds ${values.rounds}: a whole number from 1`);
  if (servers.length === 0) throw new Error(`--servers: choose of ${PEER_NAMES.join(", ")}`);
  return { quick: values.quick, rounds, only: values.only, servers, output: values.output };
}

async function main(): Promise<number> {
  const settings = readSettings();
  const { missing } = requirePrograms("fio", "qemu-nbd", "qemu-img", "nbdkit");
  if (missing.length > 0 && settings.only !== "index") {
    say(`not there: ${missing.map((one) => `${one.program} (Debian package ${one.debianPackage})`).join(", ")}`);
    return 1;
  }
  const folder = storageFolder();
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  try {
    const results = await measure(folder, settings);
    if (results.rows.length > 0) console.log(`\n${rowsTable(results.rows)}\n`);
    if (results.peaks.size > 0) console.log(`${memoryTable(results.peaks, results.discard)}\n`);
    if (results.index !== undefined) console.log(`${indexTable(results.index)}\n`);
    if (results.ploop.length > 0) console.log(`${ploopTable(results.ploop)}\n`);
    if (results.thin !== undefined) console.log(`${thinTable(results.thin)}\n`);
    if (results.thinTools !== undefined) console.log(`${thinToolsTable(results.thinTools)}\n`);
    if (results.recovery.length > 0) console.log(`${recoveryTable(results.recovery)}\n`);
    const when = new Date().toISOString();
    const output = settings.output ?? join(root, "bench-results", `${when.replace(/[:.]/g, "-")}.json`);
    mkdirSync(dirname(output), { recursive: true });
    const machine = { cpu: cpus()[0]?.model, count: cpus().length, node: process.version };
    const { rounds, quick } = settings;
    const report = { when, machine, rounds, quick, ...results, peaks: Object.fromEntries(results.peaks) };
    writeFileSync(output, `${JSON.stringify(report, null, 2)}\n`);
    say(`written to ${output}`);
    return 0;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

// The servers end with this process; what is left in the tmpfs is removed.
process.once("SIGINT", () => process.exit(130));
process.once("SIGTERM", () => process.exit(143));
process.exitCode = await main();
