/**
 * Which leaf and which slots lead to a logical block.
 *
 * Leaves are dealt out over the 60 trees in turn; within a tree the number of a leaf, in base 812, names the slots from
 * the root page (height 4) down to the page above the leaf (height 1).
 */
import { BLOCK_MAP_ENTRIES_PER_PAGE, BLOCK_MAP_ROOTS } from "../constants.ts";

/** Leaf of a logical block, counted over all trees. */
export function leafOfBlock(lbn: number): number {
  return Math.floor(lbn / BLOCK_MAP_ENTRIES_PER_PAGE);
}

/** Slot of a logical block in its leaf. */
export function slotInLeaf(lbn: number): number {
  return lbn % BLOCK_MAP_ENTRIES_PER_PAGE;
}

/** Tree of a leaf. */
export function treeOfLeaf(leaf: number): number {
  return leaf % BLOCK_MAP_ROOTS;
}

/** Number of the page of height `height` (0 is the leaf itself) on the way to a leaf, within its tree and height. */
export function pageIndex(leaf: number, height: number): number {
  let index = Math.floor(leaf / BLOCK_MAP_ROOTS);
  for (let h = 0; h < height; h++) index = Math.floor(index / BLOCK_MAP_ENTRIES_PER_PAGE);
  return index;
}

/** Slot in the page of height `height` (1 to 4) on the way to a leaf. */
export function slotInPage(leaf: number, height: number): number {
  return pageIndex(leaf, height - 1) % BLOCK_MAP_ENTRIES_PER_PAGE;
}

/** Leaves of tree `tree` when the block map has `leaves` leaves in all. */
export function leavesOfTree(leaves: number, tree: number): number {
  return Math.max(0, Math.ceil((leaves - tree) / BLOCK_MAP_ROOTS));
}
