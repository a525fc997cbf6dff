/** Every bug that the simulator found, as the shortest history that showed it, played with several orders of the disk. */
import { expect, test } from "vitest";
import { realEngine } from "../src/engine.ts";
import type { History } from "../src/history.ts";
import { failureOf } from "../src/shrink.ts";

/** Orders of the disk tried beside the one that failed. */
const ORDERS = 12;

interface Regression {
  name: string;
  history: History;
}

const OPTIONS: History["options"] = {
  compression: false,
  deduplication: false,
  blockMapCacheBlocks: 128,
  maximumAge: 8,
  dataVios: 20,
  logicalBlockSize: 4096,
  maxDiscardBlocks: 16,
};

const REGRESSIONS: Regression[] = [
  {
    name: "a reference taken away while its slab is being scrubbed is not forgotten (seeds 122, 170)",
    history: {
      seed: 156,
      tiny: { slabBits: 12, slabs: 4, recoveryJournalBlocks: 16, slabJournalBlocks: 16, logicalBlocks: 60_000 },
      options: OPTIONS,
      disk: { batchMax: 2, slowReads: 0.1, slowWrites: 0.5, slowFlushes: 0, volatileCache: true },
      isUsedDisk: false,
      turnMs: 1,
      depth: 64,
      forks: 1,
      items: [
        { kind: "arm", after: 12 },
        { kind: "write", lbn: 438, contents: [1], fua: false },
        { kind: "close", seed: 4160671194, cuts: [] },
        { kind: "write", lbn: 441, contents: [11], fua: true },
        { kind: "crash", after: 9, seed: 3419503571, cuts: [16] },
        { kind: "zero", lbn: 441, count: 1, unmap: true, fua: false },
      ],
    },
  },
  {
    name: "compressed blocks parked in the packer do not wait for requests that have no vio (seed 5361)",
    history: {
      seed: 5361,
      tiny: { slabBits: 12, slabs: 2, recoveryJournalBlocks: 256, slabJournalBlocks: 4, logicalBlocks: 300 },
      options: { ...OPTIONS, compression: true, maximumAge: 2, dataVios: 8 },
      disk: { batchMax: 16, slowReads: 0, slowWrites: 0, slowFlushes: 0, volatileCache: true },
      isUsedDisk: false,
      turnMs: 1,
      depth: 1,
      forks: 1,
      items: [
        {
          kind: "write",
          lbn: 202,
          contents: [13, 192, 291, 240, 241, 333, 469, 369, 257, 83, 217, 213, 290, 81],
          fua: false,
        },
        { kind: "settle" },
      ],
    },
  },
];

test.each(REGRESSIONS)("$name", async ({ history }) => {
  expect(await failureOf(history, realEngine)).toBeUndefined();
  for (let seed = 1; seed <= ORDERS; seed++) expect(await failureOf({ ...history, seed }, realEngine)).toBeUndefined();
});
