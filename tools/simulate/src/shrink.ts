/** Makes a failing history short: fewer items, then smaller ones, as long as it still fails. */
import type { Engine } from "./engine.ts";
import type { History, Item } from "./history.ts";
import { Player } from "./player.ts";

export interface Shrunk {
  history: History;
  /** How the short history fails. */
  message: string;
  /** Histories played for it. */
  played: number;
}

/** How a history fails; undefined when it does not. */
export async function failureOf(history: History, engine: Engine): Promise<string | undefined> {
  try {
    await new Player(history, engine).play();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

interface Budget {
  milliseconds: number;
  now: () => number;
}

/** The shortest failing history found within `budget`. `message` is how `history` fails. */
export async function shrink(history: History, message: string, engine: Engine, budget: Budget): Promise<Shrunk> {
  const best: Shrunk = { history, message, played: 0 };
  const end = budget.now() + budget.milliseconds;
  const tryItems = async (items: readonly Item[]): Promise<boolean> => {
    if (budget.now() > end) return false;
    best.played++;
    const candidate = { ...best.history, items };
    const failure = await failureOf(candidate, engine);
    if (failure === undefined) return false;
    best.history = candidate;
    best.message = failure;
    return true;
  };
  let before = Number.POSITIVE_INFINITY;
  while (sizeOf(best.history.items) < before && budget.now() < end) {
    before = sizeOf(best.history.items);
    await removeItems(best, tryItems);
    await simplifyItems(best, tryItems);
  }
  return best;
}

const sizeOf = (items: readonly Item[]): number => JSON.stringify(items).length;

/** Takes out runs of items, half of all at first, then shorter ones. */
async function removeItems(best: Shrunk, tryItems: (items: readonly Item[]) => Promise<boolean>): Promise<void> {
  for (let length = Math.ceil(best.history.items.length / 2); length >= 1; length = Math.floor(length / 2)) {
    for (let at = best.history.items.length - length; at >= 0; at -= length) {
      const { items } = best.history;
      await tryItems([...items.slice(0, at), ...items.slice(at + length)]);
    }
  }
}

/** Tries simpler forms of each item. */
async function simplifyItems(best: Shrunk, tryItems: (items: readonly Item[]) => Promise<boolean>): Promise<void> {
  for (let at = best.history.items.length - 1; at >= 0; at--) {
    for (;;) {
      const { items } = best.history;
      let done = true;
      for (const simpler of simplerForms(items[at] as Item)) {
        if (!(await tryItems([...items.slice(0, at), simpler, ...items.slice(at + 1)]))) continue;
        done = false;
        break;
      }
      if (done) break;
    }
  }
}

function simplerForms(item: Item): Item[] {
  const forms: Item[] = [];
  if (item.kind === "write" && item.contents.length > 1) {
    const half = Math.ceil(item.contents.length / 2);
    forms.push({ ...item, contents: item.contents.slice(0, half) });
    forms.push({ ...item, lbn: item.lbn + item.contents.length - half, contents: item.contents.slice(-half) });
  }
  if ("count" in item && item.count > 1) forms.push({ ...item, count: Math.floor(item.count / 2) });
  if ("fua" in item && item.fua) forms.push({ ...item, fua: false });
  if ("cuts" in item && item.cuts.length > 0) {
    for (let i = 0; i < item.cuts.length; i++) {
      forms.push({ ...item, cuts: [...item.cuts.slice(0, i), ...item.cuts.slice(i + 1)] });
    }
  }
  if (item.kind === "rebuild") forms.push({ kind: "crash", after: item.after, seed: item.seed, cuts: item.cuts });
  if (item.kind === "close") forms.push({ kind: "crash", after: 0, seed: item.seed, cuts: item.cuts });
  return forms;
}
