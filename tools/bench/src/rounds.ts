/**
 * Rounds of slices: every workload goes round all servers in short slices, so that what else the machine does hits all of
 * them alike; ratios are taken within a round, and their median counts. Differences under a quarter mean nothing.
 */
import { type FioRun, runFio } from "./fio.ts";
import { type Spread, spreadOf } from "./median.ts";
import { OURS, type Peer, REFERENCE } from "./peers.ts";
import { cpuSeconds } from "./process-figures.ts";
import { FILL, FILL_TO_DISCARD, WORKLOADS, type Workload } from "./workloads.ts";

export interface Cell {
  peer: string;
  /** Operations per second (for `whole` workloads too). */
  rate: Spread;
  /** To the reference, within each round. */
  ratio: Spread;
  /** Microseconds of CPU of the server per operation. */
  cpuPerOperation: Spread;
}

export interface Row {
  workload: string;
  unit: string;
  cells: Cell[];
}

export interface RoundsOptions {
  rounds: number;
  sliceMilliseconds: number;
  /** Part of the workloads' names, or undefined for all. */
  only: string | undefined;
  say(text: string): void;
}

interface Slice {
  rate: number;
  cpu: number;
}

let seed = 1;

async function slice(peer: Peer, workload: Workload, milliseconds: number): Promise<Slice> {
  seed += 1;
  const run: FioRun = { uri: peer.uri, options: workload.fio, seed };
  if (workload.whole !== true) run.milliseconds = milliseconds;
  const before = cpuSeconds(peer.pid);
  const { operations, seconds } = await runFio(run);
  const cpu = cpuSeconds(peer.pid) - before;
  return { rate: operations / Math.max(seconds, 0.001), cpu: (cpu / operations) * 1e6 };
}

async function measureWorkload(peers: readonly Peer[], workload: Workload, options: RoundsOptions): Promise<Row> {
  const slices = new Map<Peer, Slice[]>(peers.map((peer) => [peer, []]));
  for (let round = 0; round < options.rounds; round++) {
    // Each round begins with another server, so that no one always follows the same neighbour.
    for (let i = 0; i < peers.length; i++) {
      const peer = peers[(round + i) % peers.length] as Peer;
      slices.get(peer)?.push(await slice(peer, workload, options.sliceMilliseconds));
    }
  }
  const reference = peers.find((peer) => peer.name === REFERENCE) ?? (peers[0] as Peer);
  const base = slices.get(reference) as Slice[];
  const cells = [...slices].map(([peer, own]) => ({
    peer: peer.name,
    rate: spreadOf(own.map((one) => one.rate)),
    ratio: spreadOf(own.map((one, round) => one.rate / (base[round] as Slice).rate)),
    cpuPerOperation: spreadOf(own.map((one) => one.cpu)),
  }));
  return { workload: workload.name, unit: workload.unit, cells };
}

/** Measures all workloads on servers that run already. */
export async function measureRounds(peers: readonly Peer[], options: RoundsOptions): Promise<Row[]> {
  const chosen = WORKLOADS.filter((workload) => options.only === undefined || workload.name.includes(options.only));
  const rows: Row[] = [];
  options.say("filling 512 MiB of every server with unique data");
  for (const peer of peers) await runFio({ uri: peer.uri, options: FILL, seed: ++seed });
  for (const workload of chosen) {
    options.say(workload.name);
    rows.push(await measureWorkload(peers, workload, options));
  }
  return rows;
}

export interface DiscardFigures {
  fillSeconds: number;
  discardSeconds: number;
}

/** Seconds to discard 10 GiB that are mapped, on our volume. */
export async function measureFullDiscard(peers: readonly Peer[]): Promise<DiscardFigures | undefined> {
  const ours = peers.find((peer) => peer.name === OURS);
  if (ours === undefined) return undefined;
  const discard = WORKLOADS.find((workload) => workload.name.startsWith("discard")) as Workload;
  const fill = await runFio({ uri: ours.uri, options: FILL_TO_DISCARD, seed: ++seed });
  const { seconds } = await runFio({ uri: ours.uri, options: discard.fio, seed: ++seed });
  return { fillSeconds: fill.seconds, discardSeconds: seconds };
}
