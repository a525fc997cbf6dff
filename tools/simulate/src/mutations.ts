/**
 * Deliberate faults in the engine's ordering, to show that the simulator would find them.
 *
 * A mutation replaces text in a copy of the engine's source. Each piece of text must occur exactly once, so that a mutation
 * cannot come to change nothing when the engine changes: it fails loudly, and is to be rewritten.
 */
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

export interface Mutation {
  /** What the mutated engine does wrong. */
  name: string;
  /** File below `packages/kvdo/src`. */
  file: string;
  /** Text, and what replaces it. */
  edits: readonly (readonly [find: string, replacement: string])[];
}

const engineSource = fileURLToPath(new URL("../../../packages/kvdo/src/", import.meta.url));
const mutantsFolder = fileURLToPath(new URL("../../../packages/kvdo/.cache/mutants/", import.meta.url));

const JOURNAL = "recovery-journal/recovery-journal.ts";
const SLAB_JOURNAL = "slab/slab-journal.ts";

export const MUTATIONS: readonly Mutation[] = [
  {
    name: "free blocks may be used while they are discarded on the storage",
    file: "slab/storage-discards.ts",
    edits: [
      ["    hold(slab, first, count);\n", ""],
      ["    release(slab, first, count);\n", ""],
    ],
  },
  {
    name: "a freed block that is used again already is discarded on the storage",
    file: "slab/storage-discards.ts",
    edits: [
      ["< RUN_BLOCKS_MAX) && slab.counts.areFree(at, groupBlocks);", "< RUN_BLOCKS_MAX);"],
      ["    hold(slab, first, count);\n", ""],
      ["    release(slab, first, count);\n", ""],
    ],
  },
  {
    name: "a journal block is written without a flush before it",
    file: JOURNAL,
    edits: [["            preflush: true,\n            fua: true,", "            fua: true,"]],
  },
  {
    name: "a journal block is written without FUA",
    file: JOURNAL,
    edits: [["            preflush: true,\n            fua: true,", "            preflush: true,"]],
  },
  {
    name: "a FUA write is acknowledged when its block is allocated",
    file: "data-path/write-path.ts",
    edits: [["vio.newState = 1;\n      if (!vio.fua) acknowledge(vio);", "vio.newState = 1;\n      acknowledge(vio);"]],
  },
  {
    name: "a FUA write of zeros is acknowledged before its journal entry (a defect of the original)",
    file: "data-path/write-path.ts",
    edits: [
      [
        "      if (!vio.fua) acknowledge(vio);\n      return this.#readOldMapping",
        "      acknowledge(vio);\n      return this.#readOldMapping",
      ],
    ],
  },
  {
    name: "a flush is answered while writes of its generation are under way",
    file: "data-path/flusher.ts",
    edits: [["first.generation < this.#oldest;", "first.generation <= this.#oldest;"]],
  },
  {
    name: "a flush joins one that has begun already",
    file: "io/storage-io.ts",
    edits: [
      ["      this.#queuedFlush = null;\n", ""],
      [
        "          this.#writesFlushed = covered;\n",
        "          this.#writesFlushed = covered;\n          this.#queuedFlush = null;\n",
      ],
    ],
  },
  {
    name: "a flush that failed is forgotten when the next one succeeds",
    file: "io/storage-io.ts",
    edits: [["      if (this.#flushFailure !== null) throw this.#flushFailure;\n", ""]],
  },
  {
    name: "the recovery journal is reaped one block early",
    file: JOURNAL,
    edits: [["head++;\n    return head;", "head++;\n    return head < limit ? head + 1 : head;"]],
  },
  {
    name: "a slab journal is reaped one block early",
    file: SLAB_JOURNAL,
    edits: [
      [
        "    if (to === this.#unreapable) return;\n",
        "    if (to < this.tail) to++;\n    if (to === this.#unreapable) return;\n",
      ],
    ],
  },
  {
    name: "a slab journal block lets go of the recovery journal before the summary names it",
    file: SLAB_JOURNAL,
    edits: [
      [
        "        const upTo = this.#nextCommit;\n",
        "        const upTo = this.#nextCommit;\n        this.#releaseSummarized(upTo);\n",
      ],
      ["        });\n        this.#releaseSummarized(upTo);\n", "        });\n"],
    ],
  },
  {
    name: "the slab summary is written without a flush before it",
    file: "slab/slab-summary.ts",
    edits: [["this.#origin + index, bytes, { preflush: true });", "this.#origin + index, bytes);"]],
  },
  {
    name: "provisional references are kept over a start",
    file: "slab/reference-counts.ts",
    edits: [["      if (counts[i] === PROVISIONAL) counts[i] = 0;\n", ""]],
  },
  {
    name: "a page that was never written is written once, as initialised",
    file: "block-map/page-store.ts",
    edits: [
      [
        "    copy.set(page.bytes);\n",
        "    copy.set(page.bytes);\n    setPageInitialised(copy, true);\n    setPageInitialised(page.bytes, true);\n",
      ],
    ],
  },
  {
    name: "a page lets go of the recovery journal when its write begins",
    file: "block-map/page-store.ts",
    edits: [
      [
        "    page.isWriting = true;\n",
        "    page.isWriting = true;\n    journalLocks.release(LOCK_KIND_PAGES, sequence);\n",
      ],
      ["      }\n      journalLocks.release(LOCK_KIND_PAGES, sequence);\n", "      }\n"],
    ],
  },
  {
    name: "a page is changed before the journal entry is committed",
    file: "data-path/write-path.ts",
    edits: [
      [
        "    if (pbn !== 0) this.#o.space.begin(vio);\n",
        "    if (pbn !== 0) this.#o.space.begin(vio);\n    page.map(vio.leafSlot, vio.newPbn, vio.newState);\n",
      ],
    ],
  },
  {
    name: "the decrement of an entry comes before its increment",
    file: "data-path/write-path.ts",
    edits: [
      [
        "    if (increments) {\n      const { increment } = vio;",
        "    if (decrements) {\n      depot.update(Object.assign(vio.decrement, { pbn: vio.entryOldPbn, isIncrement: false, isBlockMap: false, lock: null }));\n    }\n    if (increments) {\n      const { increment } = vio;",
      ],
      [
        "    if (decrements) {\n      const { decrement } = vio;",
        "    if (decrements && vio === null) {\n      const { decrement } = vio;",
      ],
    ],
  },
  {
    name: "recovery does not look at the check bytes of journal sectors",
    file: "recovery/journal-scan.ts",
    edits: [["if (check !== checkByte || count", "if (count"]],
  },
  {
    name: "recovery writes the super block before the slab journals",
    file: "admin/open-parts.ts",
    edits: [
      [
        "    const made = await replaySlabJournals(analysis, depot);",
        "    await keeper.save(VOLUME_STATE.dirty, usage());\n    const made = await replaySlabJournals(analysis, depot);",
      ],
    ],
  },
  {
    name: "scrubbing applies slab journal entries that the counts have already",
    file: "slab/slab-replay.ts",
    edits: [["    if (sequence < covered ||", "    if (sequence < 0 && sequence < covered ||"]],
  },
  {
    name: "slab journal entries are made while the slab is scrubbed",
    file: SLAB_JOURNAL,
    edits: [
      ["if (this.#partialWrite || this.#slab.isRebuilding) return false;", "if (this.#partialWrite) return false;"],
    ],
  },
  {
    name: "a clean stop writes the super block before the slabs are saved",
    file: "volume.ts",
    edits: [["      await depot.save();\n", "      void depot.save();\n"]],
  },
  {
    name: "the super block is written without a flush before it",
    file: "admin/super-block-keeper.ts",
    edits: [["{ preflush: true, fua: true, isRec", "{ fua: true, isRec"]],
  },
];

/** A file name for a mutation. */
export function slugOf({ name }: Mutation): string {
  return name
    .toLowerCase()
    .replace(/[^a-z]+/g, "-")
    .slice(0, 60);
}

/** The text of the mutated file. Throws unless every piece of text to be replaced occurs exactly once. */
export function mutatedText(mutation: Mutation): string {
  let text = readFileSync(join(engineSource, mutation.file), "utf8");
  for (const [find, replacement] of mutation.edits) {
    const count = text.split(find).length - 1;
    if (count !== 1) {
      throw new Error(
        `mutation "${mutation.name}": in ${mutation.file} its text occurs ${count} times, not once:\n${find}`,
      );
    }
    text = text.replace(find, () => replacement);
  }
  return text;
}

/** Makes a copy of the engine with one mutation; returns the address of its `index.ts`. */
export function makeMutant(mutation: Mutation): string {
  const text = mutatedText(mutation);
  const folder = join(mutantsFolder, slugOf(mutation));
  removeMutant(mutation);
  mkdirSync(folder, { recursive: true });
  cpSync(engineSource, folder, { recursive: true, filter: (path) => !path.endsWith(".test.ts") });
  writeFileSync(join(folder, mutation.file), text);
  return pathToFileURL(join(folder, "index.ts")).href;
}

export function removeMutant(mutation: Mutation): void {
  rmSync(join(mutantsFolder, slugOf(mutation)), { recursive: true, force: true });
}
