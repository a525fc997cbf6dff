/**
 * Draws a history from a seed. Every history has its own mix: which operations and faults exist in it at all, and then
 * their odds, sizes and the shape of the volume; so that what one kind of operation hides, some history without it shows.
 */
import { Random } from "@vdo/base";
import type { TinyOptions } from "@vdo/kvdo/testing";
import type { Faults, History, Item } from "./history.ts";

const LEAF = 812;
/** Entries of a block of the recovery journal. */
const ENTRIES_PER_BLOCK = 217;
/** Crashes looked at in each run of a heavy history, about. */
const PEEKS = 8;

/** The mix of one history. */
interface Mix {
  random: Random;
  tiny: TinyOptions;
  regions: readonly { start: number; length: number }[];
  /** Kinds of operations, each as often as its odds say. */
  deck: readonly Item["kind"][];
  blocksMax: number;
  contents: number;
  fuaOdds: number;
  requestsMax: number;
  cutOdds: number;
  nextContent: number;
  isHeavy: boolean;
}

const WEIGHTS: readonly [Item["kind"], number[]][] = [
  ["write", [4, 10, 30]],
  ["partial", [0, 0, 4, 10]],
  ["zero", [0, 1, 5]],
  ["discard", [0, 1, 5]],
  ["read", [0, 2, 6]],
  ["flush", [0, 1, 3, 10]],
  ["settle", [0, 1, 4]],
  ["turns", [0, 1, 5]],
  ["compression", [0, 0, 0, 1]],
  ["peek", [0, 1, 3]],
  ["suspend", [0, 0, 0, 1]],
  ["faults", [0, 0, 0, 1]],
];

function drawDeck(random: Random, canBePartial: boolean): Item["kind"][] {
  const deck: Item["kind"][] = [];
  for (const [kind, weights] of WEIGHTS) {
    const weight = random.pick(weights);
    if (kind === "partial" && !canBePartial) continue;
    for (let i = 0; i < weight; i++) deck.push(kind);
  }
  return deck;
}

function drawTiny(random: Random): TinyOptions {
  const slabBits = random.pick([9, 10, 10, 10, 11, 12, 13]);
  const slabs = random.pick([1, 2, 2, 3, 4, 8]);
  const slabJournalBlocks = random.pick([4, 4, 5, 8, 16]);
  return {
    slabBits,
    slabs,
    recoveryJournalBlocks: random.pick([8, 16, 16, 32, 32, 64, 256]),
    slabJournalBlocks,
    logicalBlocks: random.pick([300, LEAF, 5_000, 60_000, 200_000]),
  };
}

/** Parts of the logical space that are used: one, some in one leaf, or some all over the volume. */
function drawRegions(random: Random, logicalBlocks: number): { start: number; length: number }[] {
  const count = random.pick([1, 1, 2, 5, 20]);
  const length = random.pick([2, 10, 60, 300]);
  const spread = random.chance(0.5) ? logicalBlocks : Math.min(logicalBlocks, LEAF * 2);
  return Array.from({ length: count }, () => {
    const start = random.below(spread);
    return { start, length: Math.max(1, Math.min(length, logicalBlocks - start)) };
  });
}

/** A volume whose journals go round and round: few small journals, requests of hundreds of blocks. */
function drawHeavyMix(random: Random): Mix {
  const tiny: TinyOptions = {
    slabBits: random.pick([11, 11, 12, 13]),
    slabs: random.pick([1, 2, 3]),
    recoveryJournalBlocks: random.pick([4, 8, 8, 16]),
    slabJournalBlocks: random.pick([4, 4, 5, 6, 8]),
    logicalBlocks: random.pick([2_000, 60_000]),
  };
  const deck: Item["kind"][] = ["write", "write", "zero", "write", "discard", "flush", "settle", "turns", "read"];
  return {
    random,
    tiny,
    regions: Array.from({ length: random.pick([1, 3, 8]) }, () => {
      return { start: random.below(tiny.logicalBlocks - 600), length: random.pick([100, 300, 600]) };
    }),
    deck: deck.slice(0, random.pick([2, 3, 5, 6, deck.length])),
    blocksMax: random.pick([60, 200, 300]),
    contents: random.pick([20, 0]),
    fuaOdds: random.pick([0, 0.3]),
    requestsMax: random.pick([20, 100, 400]),
    cutOdds: random.pick([0, 0.3]),
    nextContent: 0,
    isHeavy: true,
  };
}

function drawMix(random: Random, tiny: TinyOptions, canBePartial: boolean): Mix {
  return {
    random,
    tiny,
    regions: drawRegions(random, tiny.logicalBlocks),
    deck: drawDeck(random, canBePartial),
    blocksMax: random.pick([1, 4, 16, 64, 200]),
    contents: random.pick([3, 20, 500, 0, 0]),
    fuaOdds: random.pick([0, 0.05, 0.3, 1]),
    requestsMax: random.pick([3, 20, 100, 400]),
    cutOdds: random.pick([0, 0.3, 0.7]),
    nextContent: 0,
    isHeavy: false,
  };
}

/** A pool that the blocks kept in reserve in the recovery journal are enough for. */
function drawPool(random: Random, { recoveryJournalBlocks }: TinyOptions): number {
  if (recoveryJournalBlocks < 16) return random.pick([8, 20, 60, 100]);
  return random.pick([8, 20, 60, 60, 150, recoveryJournalBlocks >= 64 && random.chance(0.2) ? 2048 : 300]);
}

/** The history of `seed`. */
export function drawHistory(seed: number): History {
  const random = new Random(seed * 2 + 1);
  const isHeavy = random.chance(0.12);
  const logicalBlockSize = !isHeavy && random.chance(0.25) ? 512 : 4096;
  const mix = isHeavy ? drawHeavyMix(random) : drawMix(random, drawTiny(random), logicalBlockSize === 512);
  const { tiny } = mix;
  const dataVios = drawPool(random, tiny);
  const usable = tiny.recoveryJournalBlocks - Math.min(tiny.recoveryJournalBlocks / 4, 11);
  const age = Math.floor((Math.floor(usable / 2) * 434) / 311);
  const history: Omit<History, "items"> = {
    seed,
    tiny,
    options: {
      compression: random.chance(0.6),
      deduplication: random.chance(0.4),
      blockMapCacheBlocks: 128,
      maximumAge: Math.min(age, random.pick([1, 1, 2, age])),
      dataVios,
      logicalBlockSize,
      maxDiscardBlocks: random.pick([1, 1, 16]),
    },
    disk: {
      batchMax: random.pick([1, 2, 4, 16]),
      slowReads: random.pick([0, 0, 0.1]),
      slowWrites: isHeavy ? random.pick([0, 0.05, 0.3]) : random.pick([0, 0, 0.1, 0.5]),
      slowFlushes: random.pick([0, 0, 0.3, 0.7]),
      volatileCache: random.chance(0.95),
    },
    isUsedDisk: random.chance(0.6),
    turnMs: random.pick([0.01, 0.2, 1, 5]),
    depth: random.pick([1, 4, 16, 64]),
    forks: random.pick([0, 1, 1, 2]),
  };
  return withLaterInventions({ ...history, items: drawItems(mix) });
}

/**
 * What histories did not have at first is drawn apart, so that those without it stay what they were: freed blocks are discarded
 * on a disk that gives garbage for them, and the volume grows.
 */
function withLaterInventions(history: History): History {
  const random = new Random(history.seed * 2 + 0x5eed);
  const isDiscarding = random.chance(0.35);
  const isGrowing = random.chance(0.25);
  const items = isGrowing ? withGrowth(history.items, random, history.tiny) : history.items;
  if (!isDiscarding) return { ...history, items };
  return {
    ...history,
    items,
    options: {
      ...history.options,
      discardStorage: { groupBlocks: random.pick([1, 1, 1, 2, 4, 16]), delayMs: random.pick([0, 0.1, 5, 1000]) },
    },
    disk: { ...history.disk, discardGarbage: random.chance(0.8) },
  };
}

function withGrowth(items: readonly Item[], random: Random, { logicalBlocks }: TinyOptions): Item[] {
  const grown = [...items];
  for (let count = 1 + random.below(3); count > 0; count--) {
    const cut = random.chance(0.4) ? { cut: random.below(random.pick([10, 60, 300])) } : {};
    const at = random.below(grown.length + 1);
    if (random.chance(0.5)) {
      grown.splice(at, 0, { kind: "growPhysical", slabs: 1 + random.below(2), ...cut });
      continue;
    }
    const blocks = random.pick([1, 500, 5000]);
    const lbn = logicalBlocks + random.below(blocks);
    const write: Item = { kind: "write", lbn, contents: [900_000 + count], fua: random.chance(0.3) };
    grown.splice(at, 0, { kind: "growLogical", blocks, ...cut }, write);
  }
  return grown;
}

/** Operations that fill the recovery journal several times over, looked at along the way. */
function drawHeavyItems(mix: Mix): Item[] {
  const { random, tiny, blocksMax } = mix;
  const items: Item[] = [];
  const capacity = tiny.recoveryJournalBlocks * ENTRIES_PER_BLOCK;
  for (let boots = 1 + random.below(2); boots > 0; boots--) {
    const wanted = capacity * random.pick([0.5, 1.5, 2.5]);
    const peekOdds = (PEEKS * blocksMax) / 2 / wanted;
    for (let entries = 0; entries < wanted; ) {
      const item = drawOperation(mix);
      items.push(item);
      if (item.kind === "write") entries += item.contents.length;
      else if (item.kind === "zero" || item.kind === "discard") entries += item.count;
      if (!random.chance(peekOdds)) continue;
      items.push({ kind: "turns", count: random.below(30) }, { kind: "peek", seed: random.next32() });
    }
    items.push(drawEnd(mix));
  }
  return items;
}

function drawItems(mix: Mix): Item[] {
  const { random } = mix;
  if (mix.isHeavy) return drawHeavyItems(mix);
  const items: Item[] = [];
  const many = random.chance(0.03);
  const boots = many ? 20 + random.below(random.chance(0.1) ? 200 : 20) : 1 + random.below(4);
  const perBoot = many ? random.pick([2, 6]) : random.pick([4, 15, 40, 100]);
  for (let boot = 0; boot < boots; boot++) {
    const count = 1 + random.below(perBoot);
    const armAt = random.chance(0.5) ? random.below(count) : -1;
    for (let i = 0; i < count; i++) {
      if (i === armAt) items.push({ kind: "arm", after: random.below(mix.requestsMax * 4) });
      items.push(drawOperation(mix));
    }
    items.push(drawEnd(mix));
  }
  return items;
}

function drawCuts({ random, cutOdds }: Mix): number[] {
  const cuts: number[] = [];
  const largest = random.pick([5, 30, 200, 800]);
  while (cuts.length < 8 && random.chance(cutOdds)) cuts.push(random.below(largest));
  return cuts;
}

function drawEnd(mix: Mix): Item {
  const { random } = mix;
  const seed = random.next32();
  const cuts = drawCuts(mix);
  const dice = random.below(20);
  if (dice < 14) return { kind: "crash", after: random.below(mix.requestsMax), seed, cuts };
  if (dice < 16) return { kind: "close", seed, cuts };
  if (dice < 18) return { kind: "close", cut: random.below(random.pick([10, 60, 300])), seed, cuts };
  return { kind: "rebuild", after: random.below(mix.requestsMax), seed, cuts, look: random.chance(0.5) };
}

function drawPlace({ random, regions, blocksMax }: Mix): { lbn: number; count: number } {
  const region = random.pick(regions);
  const offset = random.below(region.length);
  const most = Math.min(blocksMax, region.length - offset);
  return { lbn: region.start + offset, count: 1 + random.below(most) };
}

function drawContent(mix: Mix): number {
  if (mix.random.chance(0.02)) return 0;
  return mix.contents === 0 ? ++mix.nextContent : 1 + mix.random.below(mix.contents);
}

function drawOperation(mix: Mix): Item {
  const { random } = mix;
  const kind = random.pick(mix.deck);
  const fua = random.chance(mix.fuaOdds);
  const { lbn, count } = drawPlace(mix);
  switch (kind) {
    case "write": {
      const same = random.chance(0.1) ? drawContent(mix) : -1;
      return { kind, lbn, contents: Array.from({ length: count }, () => (same >= 0 ? same : drawContent(mix))), fua };
    }
    case "partial": {
      const sector = random.below(8);
      return { kind, lbn, sector, sectors: 1 + random.below(8 - sector), content: drawContent(mix), fua };
    }
    case "zero":
      return { kind, lbn, count, unmap: random.chance(0.5), fua };
    case "discard":
    case "read":
      return { kind, lbn, count, ...(kind === "discard" ? { fua } : {}) } as Item;
    case "peek":
      return { kind, seed: random.next32() };
    case "turns":
      return { kind, count: 1 + random.below(30) };
    case "compression":
      return { kind, on: random.chance(0.5) };
    case "suspend": {
      const save = random.chance(0.6);
      return random.chance(0.4) ? { kind, save, cut: random.below(100) } : { kind, save };
    }
    case "faults":
      return { kind, faults: drawFaults(random) };
    default:
      return { kind } as Item;
  }
}

function drawFaults(random: Random): Faults {
  if (random.chance(0.4)) return { readErrors: 0, writeErrors: 0, flushErrors: random.pick([0.05, 0.3, 0.6]) };
  const odds = random.pick([0.002, 0.02, 0.2]);
  return {
    readErrors: random.chance(0.4) ? odds : 0,
    writeErrors: random.chance(0.4) ? odds : 0,
    flushErrors: random.chance(0.4) ? odds : 0,
    room: random.chance(0.3) ? random.below(60) : undefined,
  };
}
