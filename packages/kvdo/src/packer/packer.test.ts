import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { COMPRESSED_BLOCK_DATA_SIZE, PACKER_BINS } from "../constants.ts";
import { DataVio } from "../data-path/data-vio.ts";
import { fragmentOffset, fragmentSize } from "../format/index.ts";
import { emptyStatistics } from "../statistics/index.ts";
import { Packer } from "./packer.ts";

interface Event {
  kind: "plain" | "packed";
  numbers: number[];
}

function make() {
  const events: Event[] = [];
  const statistics = emptyStatistics();
  const blocks: Uint8Array[] = [];
  const packer: Packer = new Packer(statistics, {
    writePlain: (vio) => void events.push({ kind: "plain", numbers: [vio.number] }),
    writePacked: (writer) => {
      const packed = writer.packed as DataVio[];
      expect(packed[0]).toBe(writer);
      events.push({ kind: "packed", numbers: packed.map(({ number }) => number) });
      blocks.push(writer.ioBytes.slice());
      // What is read back from the block is what each vio brought.
      for (const [slot, vio] of packed.entries()) {
        const at = fragmentOffset(writer.ioBytes, slot);
        expect(fragmentSize(writer.ioBytes, slot)).toBe(vio.compressedSize);
        const bytes = writer.ioBytes.subarray(at, at + vio.compressedSize);
        expect(Buffer.compare(bytes, vio.scratch.subarray(0, vio.compressedSize))).toBe(0);
      }
      packer.recycle(writer.ioBytes);
      writer.packed = null;
    },
  });
  return { packer, events, statistics, blocks };
}

let next = 0;
function fragment(size: number, number = next++): DataVio {
  const vio = new DataVio(number, Buffer.alloc(0), Buffer.alloc(4096).fill(number % 251, 0, size));
  vio.compressedSize = size;
  vio.generation = 0;
  return vio;
}

/** The rules as sentences: bins as plain lists, sorted by free space before each choice. */
class Model {
  readonly events: Event[] = [];
  bins: { vios: DataVio[]; free: number }[] = Array.from({ length: PACKER_BINS }, () => ({
    vios: [],
    free: COMPRESSED_BLOCK_DATA_SIZE,
  }));

  #out(bin: { vios: DataVio[]; free: number }): void {
    const numbers = bin.vios.map(({ number }) => number).reverse();
    bin.vios = [];
    bin.free = COMPRESSED_BLOCK_DATA_SIZE;
    if (numbers.length === 1) this.events.push({ kind: "plain", numbers });
    else if (numbers.length > 1) this.events.push({ kind: "packed", numbers });
  }

  add(vio: DataVio): void {
    const size = vio.compressedSize;
    const fits = this.bins.find(({ free }) => free >= size);
    const fullest = this.bins[0]!;
    if (fits === undefined && size >= COMPRESSED_BLOCK_DATA_SIZE - fullest.free) {
      this.events.push({ kind: "plain", numbers: [vio.number] });
      return;
    }
    const bin = fits ?? fullest;
    if (fits === undefined) this.#out(bin);
    bin.vios.push(vio);
    bin.free -= size;
    if (bin.vios.length === 14 || bin.free === 0) this.#out(bin);
    // Ascending free space; the changed bin goes behind those with as much.
    this.#place(bin);
  }

  #place(bin: { vios: DataVio[]; free: number }): void {
    const from = this.bins.indexOf(bin);
    this.bins.splice(from, 1);
    const after = this.bins.findIndex(({ free }) => free > bin.free);
    this.bins.splice(after < 0 ? this.bins.length : after, 0, bin);
  }

  remove(vio: DataVio): void {
    const bin = this.bins.find(({ vios }) => vios.includes(vio));
    if (bin === undefined) return;
    const last = bin.vios.pop() as DataVio;
    if (last !== vio) bin.vios[bin.vios.indexOf(vio)] = last;
    bin.free += vio.compressedSize;
    this.#place(bin);
    this.events.push({ kind: "plain", numbers: [vio.number] });
  }

  flush(): void {
    for (const bin of [...this.bins]) this.#out(bin);
  }

  get parked(): DataVio[] {
    return this.bins.flatMap(({ vios }) => vios);
  }
}

test("bins fill, empty and are chosen as the rules say, in any history with cancellations and flushes", () => {
  const step = fc.oneof(
    { weight: 20, arbitrary: fc.record({ size: fc.integer({ min: 40, max: 3900 }) }) },
    { weight: 10, arbitrary: fc.record({ size: fc.integer({ min: 40, max: 500 }) }) },
    { weight: 3, arbitrary: fc.record({ remove: fc.nat(1000) }) },
    { weight: 1, arbitrary: fc.constant({ flush: true }) },
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 150 }), (steps) => {
      const { packer, events, statistics } = make();
      const model = new Model();
      for (const what of steps) {
        if ("size" in what) {
          const vio = fragment(what.size);
          packer.add(vio);
          model.add(vio);
        } else if ("remove" in what) {
          const { parked } = model;
          const vio = parked[what.remove % Math.max(1, parked.length)];
          if (vio !== undefined) {
            packer.remove(vio);
            model.remove(vio);
          }
        } else {
          packer.flush(0);
          model.flush();
        }
        const sorted = (list: Event[]): string[] => list.map((event) => JSON.stringify(event));
        expect(sorted(events.splice(0))).toEqual(sorted(model.events.splice(0)));
        expect(statistics.packer.compressedFragmentsInPacker).toBe(model.parked.length);
      }
    }),
    { numRuns: 200 },
  );
});

describe("edges", () => {
  test("the fourteenth fragment writes the bin out; thirteen stay", () => {
    const { packer, events } = make();
    for (let i = 0; i < 13; i++) packer.add(fragment(100, i));
    expect(events).toEqual([]);
    packer.add(fragment(100, 13));
    expect(events).toEqual([{ kind: "packed", numbers: [13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0] }]);
  });

  test("a bin that is exactly full is written out", () => {
    const { packer, events, blocks } = make();
    packer.add(fragment(COMPRESSED_BLOCK_DATA_SIZE - 1000, 0));
    packer.add(fragment(1000, 1));
    expect(events).toEqual([{ kind: "packed", numbers: [1, 0] }]);
    expect(blocks).toHaveLength(1);
  });

  test("a single fragment in a bin is written plainly", () => {
    const { packer, events } = make();
    packer.add(fragment(700, 3));
    packer.flush(0);
    expect(events).toEqual([{ kind: "plain", numbers: [3] }]);
  });

  test("vios of generations before the flush, cancelled ones and those of a closed packer are not parked", () => {
    const { packer, events } = make();
    packer.flush(5);
    const late = fragment(100, 0);
    late.generation = 4;
    packer.add(late);
    const cancelled = fragment(100, 1);
    cancelled.generation = 5;
    cancelled.mayNotCompress = true;
    packer.add(cancelled);
    packer.setOpen(false);
    const closed = fragment(100, 2);
    closed.generation = 5;
    packer.add(closed);
    expect(events.map(({ numbers }) => numbers)).toEqual([[0], [1], [2]]);
    packer.setOpen(true);
    const parked = fragment(100, 3);
    parked.generation = 5;
    packer.add(parked);
    expect(events).toHaveLength(3);
    packer.setOpen(false);
    expect(events).toHaveLength(4);
  });
});
