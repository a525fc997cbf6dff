/** Laws that every declared layout obeys. */
import { firstDifference, isVdoError, type Struct } from "@vdo/base";
import fc from "fast-check";
import { expect } from "vitest";

// biome-ignore lint/suspicious/noExplicitAny: layouts of any fields.
type AnyLayout = Struct<any>;

/** Largest value of each byte that decodes, the other bytes being zero: 64-bit counts are refused above 2^53 - 1. */
function byteLimits(layout: AnyLayout): number[] {
  return Array.from({ length: layout.size }, (_, at) => {
    for (const limit of [0xff, 0x1f]) {
      const bytes = new Uint8Array(layout.size);
      bytes[at] = limit;
      try {
        layout.decode(bytes);
        return limit;
      } catch (error) {
        expect(isVdoError(error, "VDO_CORRUPT")).toBe(true);
      }
    }
    return 0;
  });
}

/**
 * The fields tile the structure; any bytes that decode survive decoding and encoding; fewer bytes are refused; the table of
 * offsets is the one in the snapshot.
 */
export function layoutLaws(layout: AnyLayout): void {
  let next = 0;
  for (const field of layout.fields) {
    expect(field.offset, `${layout.name}.${field.name}`).toBe(next);
    expect(layout.at[field.name]?.offset).toBe(next);
    next += field.size;
  }
  expect(next).toBe(layout.size);
  expect(layout.fields.map(({ name, offset, size, kind }) => `${offset}+${size} ${name}: ${kind}`)).toMatchSnapshot();
  expect(() => layout.decode(new Uint8Array(layout.size - 1))).toThrow("too few");

  const bytes = fc.tuple(...byteLimits(layout).map((max) => fc.integer({ min: 0, max })));
  fc.assert(
    fc.property(bytes, (values) => {
      const encoded = Uint8Array.from(values);
      expect(firstDifference(layout.encode(layout.decode(encoded)), encoded)).toBe(-1);
    }),
    { numRuns: 50 },
  );
}
