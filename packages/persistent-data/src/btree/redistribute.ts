/** Moving entries between neighbouring nodes, order kept. Counts of what entries point at do not change. */
import { invariant } from "@vdo/base";
import { copyEntries, entriesMax, entryCount, initLike, setEntryCount, shiftEntries } from "../format/node.ts";
import { Block } from "../store/block.ts";

/** Makes `left` hold `target` entries, taking from or giving to `right`. */
export function balance(left: Block, right: Block, target: number): void {
  const leftCount = entryCount(left);
  const total = leftCount + entryCount(right);
  invariant(target <= entriesMax(left), "the left node has room");
  invariant(total - target <= entriesMax(right), "the right node has room");
  if (target > leftCount) {
    const count = target - leftCount;
    copyEntries(right, 0, { target: left, to: leftCount, count });
    setEntryCount(left, target);
    shiftEntries(right, -count);
  } else if (target < leftCount) {
    const count = leftCount - target;
    shiftEntries(right, count);
    copyEntries(left, target, { target: right, to: 0, count });
    setEntryCount(left, target);
  }
}

/** Halves: the left node gets the smaller one. */
export function redistribute2(left: Block, right: Block): void {
  balance(left, right, Math.floor((entryCount(left) + entryCount(right)) / 2));
}

/** The entries of the three nodes while they are dealt out again. Used between no two steps of an operation. */
const scratch = [new Block(0), new Block(0), new Block(0)] as const;

/** Makes three neighbours hold the stated numbers of entries; the right one gets the rest. */
export function redistribute3(
  nodes: readonly [Block, Block, Block],
  { leftTarget, centreTarget }: { leftTarget: number; centreTarget: number },
): void {
  const counts = nodes.map(entryCount);
  const total = counts.reduce((sum, count) => sum + count, 0);
  nodes.forEach((node, i) => {
    const copy = scratch[i] as Block;
    initLike(copy, node);
    copyEntries(node, 0, { target: copy, to: 0, count: counts[i] as number });
  });
  let source = 0;
  let from = 0;
  const targets = [leftTarget, centreTarget, total - leftTarget - centreTarget];
  nodes.forEach((node, i) => {
    const target = targets[i] as number;
    invariant(target <= entriesMax(node), "redistributed entries fit");
    let filled = 0;
    while (filled < target) {
      const count = Math.min(target - filled, (counts[source] as number) - from);
      copyEntries(scratch[source] as Block, from, { target: node, to: filled, count });
      filled += count;
      from += count;
      if (from === counts[source]) {
        source++;
        from = 0;
      }
    }
    setEntryCount(node, target);
  });
}
