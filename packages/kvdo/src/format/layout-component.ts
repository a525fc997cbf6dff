/**
 * The layout component of a super block: four partitions, found by id.
 *
 * The order of the records has no meaning, but the kernel turns it round at every load and save: formatting writes 1, 2,
 * 3, 0; the first start leaves 0, 3, 2, 1; the second 1, 2, 3, 0; and so on.
 */
import { array, struct, u8, u64le, type ValueOf, VdoError } from "@vdo/base";
import type {} from "../errors.ts";
import { componentHeader } from "./component-header.ts";

export const PARTITION = { blockMap: 0, slabDepot: 1, recoveryJournal: 2, slabSummary: 3 } as const;
export type PartitionId = (typeof PARTITION)[keyof typeof PARTITION];
export const PARTITION_COUNT = 4;

const NAMES = ["block map", "slab depot", "recovery journal", "slab summary"] as const;

export const partitionRecord = struct("Partition", 25, {
  id: u8,
  /** Absolute number of the first block. */
  start: u64le,
  /** Written as 0; 6.2 and 8.2 wrote 60 for the depot; ignored. */
  base: u64le,
  count: u64le,
});
export type Partition = ValueOf<typeof partitionRecord>;

export const layoutComponent = struct("Layout", 137, {
  header: componentHeader,
  /** Start of the recovery journal, as is `lastFree`: the space between the two is used up. */
  firstFree: u64le,
  lastFree: u64le,
  partitionCount: u8,
  partitions: array(partitionRecord, PARTITION_COUNT),
});
export type LayoutComponent = ValueOf<typeof layoutComponent>;

export const LAYOUT_HEADER = { id: 1, version: { major: 3, minor: 0 }, size: 117 };

/** The partition of an id. Throws `VDO_UNKNOWN_PARTITION` when the layout lacks it. */
export function findPartition(layout: LayoutComponent, id: PartitionId): Partition {
  for (let i = 0; i < Math.min(layout.partitionCount, PARTITION_COUNT); i++) {
    const partition = layout.partitions[i]!;
    if (partition.id === id) return partition;
  }
  throw new VdoError("VDO_UNKNOWN_PARTITION", `the layout has no ${NAMES[id]} partition`, {
    structure: layoutComponent.name,
    field: "partitions",
    expected: id,
    actual: layout.partitions.map((partition) => partition.id),
  });
}

/**
 * Checks that there are at most four partitions, that all four ids are there, and that they cover the blocks after the
 * super block at `dataStart` up to `physicalBlocks`. Throws `VDO_UNKNOWN_PARTITION` or `VDO_BAD_LAYOUT`.
 */
export function checkLayout(layout: LayoutComponent, { dataStart, physicalBlocks }: LayoutBounds): void {
  if (layout.partitionCount > PARTITION_COUNT) {
    bad("partition count", PARTITION_COUNT, layout.partitionCount);
  }
  let end = dataStart + 1;
  for (const id of Object.values(PARTITION)) {
    const partition = findPartition(layout, id);
    if (partition.start <= dataStart || partition.start + partition.count > physicalBlocks) {
      bad(`${NAMES[id]} partition`, `inside ${dataStart + 1} to ${physicalBlocks}`, partition.start);
    }
    end += partition.count;
  }
  if (end !== physicalBlocks) bad("end of the partitions", physicalBlocks, end);
}

export interface LayoutBounds {
  dataStart: number;
  physicalBlocks: number;
}

function bad(field: string, expected: unknown, actual: unknown): never {
  throw new VdoError("VDO_BAD_LAYOUT", `Layout: ${field} is ${actual}, ${expected} is expected`, {
    structure: layoutComponent.name,
    field,
    expected,
    actual,
  });
}
