import fc from "fast-check";
import { expect, test } from "vitest";
import { DataVio, VIO_READ, VIO_WRITE, VioQueue } from "./data-vio.ts";
import { LogicalLocks } from "./logical-locks.ts";

const NONE = Buffer.alloc(0);
function vioOf(number: number, lbn: number, kind: number = VIO_WRITE): DataVio {
  const vio = new DataVio(number, NONE, NONE);
  vio.lbn = lbn;
  vio.kind = kind;
  return vio;
}

test("each logical block is handed on in the order in which it was asked for, whatever happens to the others", () => {
  fc.assert(
    fc.property(fc.array(fc.record({ lbn: fc.nat(4), release: fc.boolean() }), { maxLength: 200 }), (steps) => {
      const locks = new LogicalLocks();
      const model = new Map<number, DataVio[]>();
      let number = 0;
      for (const { lbn, release } of steps) {
        const queue = model.get(lbn) ?? [];
        model.set(lbn, queue);
        if (release && queue.length > 0) {
          const done = queue.shift() as DataVio;
          expect(locks.release(done)).toBe(queue[0] ?? null);
        } else {
          const vio = vioOf(number++, lbn);
          const holder = locks.take(vio);
          expect(holder).toBe(queue[0]);
          if (holder !== undefined) locks.wait(vio, holder);
          queue.push(vio);
        }
        const held = [...model.values()].filter((vios) => vios.length > 0);
        expect(locks.size).toBe(held.length);
        expect(locks.waiting).toBe(held.reduce((sum, vios) => sum + vios.length - 1, 0));
        expect(locks.holder(lbn)).toBe(queue[0]);
      }
    }),
  );
});

test("a block is changing while a writer holds it, or anybody waits behind a reader", () => {
  const locks = new LogicalLocks();
  expect(locks.isChanging(5)).toBe(false);
  const reader = vioOf(0, 5, VIO_READ);
  locks.take(reader);
  expect(locks.isChanging(5)).toBe(false);
  const writer = vioOf(1, 5);
  locks.wait(writer, reader);
  expect(locks.isChanging(5)).toBe(true);
  locks.release(reader);
  expect(locks.isChanging(5)).toBe(true);
  locks.release(writer);
  expect(locks.isChanging(5)).toBe(false);
});

test("a queue of vios behaves as a list", () => {
  const step = fc.oneof(
    fc.constant("push" as const),
    fc.constant("pushFront" as const),
    fc.constant("shift" as const),
    fc.constant("append" as const),
    fc.nat(30),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
      const queue = new VioQueue();
      const model: DataVio[] = [];
      let number = 0;
      for (const what of steps) {
        const vio = vioOf(number++, 0);
        if (what === "push") {
          queue.push(vio);
          model.push(vio);
        } else if (what === "pushFront") {
          queue.pushFront(vio);
          model.unshift(vio);
        } else if (what === "shift") expect(queue.shift()).toBe(model.shift() ?? null);
        else if (what === "append") {
          const other = new VioQueue();
          const more = [vio, vioOf(number++, 0)];
          for (const one of more) other.push(one);
          queue.append(other);
          model.push(...more);
          expect([other.length, other.head]).toEqual([0, null]);
        } else {
          const at = model.findIndex((one) => one.number === what);
          expect(queue.removeFirst((one) => one.number === what)).toBe(model[at] ?? null);
          if (at >= 0) model.splice(at, 1);
        }
        expect(queue.length).toBe(model.length);
        const found: DataVio[] = [];
        for (let one = queue.head; one !== null; one = one.next) found.push(one);
        expect(found).toEqual(model);
      }
    }),
  );
});
