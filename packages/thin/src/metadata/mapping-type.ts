/** How the mapping trees treat their values: packed mappings that count data blocks, and roots that own whole trees. */
import { type Field, u64le } from "@vdo/base";
import type { BTree, DiskSpaceMap, Steps, Store, ValueRun, ValueType } from "@vdo/persistent-data";
import { forRuns } from "@vdo/persistent-data";
import { type Mapping, mappingBlock, mappingTime, setMapping } from "../format/mapping.ts";

/** A packed mapping, 8 bytes. */
export const mappingField: Field<Mapping> = {
  size: 8,
  kind: "mapping",
  get: (view, at) => ({ block: mappingBlock(view, at), time: mappingTime(view, at) }),
  set: (view, at, value) => setMapping(view, at, value),
};

/** Calls `apply` for each run of consecutive data blocks. */
function* dataRuns({ view, at, count }: ValueRun, apply: (begin: number, end: number) => Steps<void>): Steps<void> {
  let begin = 0;
  let end = 0;
  for (let i = 0; i < count; i++) {
    const block = mappingBlock(view, at + 8 * i);
    if (i > 0 && block === end) {
      end++;
      continue;
    }
    if (i > 0) yield* apply(begin, end);
    begin = block;
    end = block + 1;
  }
  if (count > 0) yield* apply(begin, end);
}

/** Mappings hold a count of their data block; equal means the same data block, whatever the time. */
export function mappingType(data: DiskSpaceMap): ValueType<Mapping> {
  return {
    codec: mappingField,
    increment: (values) => dataRuns(values, (begin, end) => data.increment(begin, end)),
    decrement: (values) => dataRuns(values, (begin, end) => data.decrement(begin, end)),
    equal: (a, b) => a.block === b.block,
  };
}

/** Roots of devices' mappings: who drops one drops the tree. */
export function deviceRootType(store: Store, mappings: BTree<Mapping>): ValueType<number> {
  return {
    codec: u64le,
    increment: (values) => forRuns(values, (begin, end) => store.increment(begin, end)),
    *decrement({ view, at, count }) {
      for (let i = 0; i < count; i++) yield* mappings.drop(u64le.get(view, at + 8 * i));
    },
    equal: (a, b) => a === b,
  };
}
