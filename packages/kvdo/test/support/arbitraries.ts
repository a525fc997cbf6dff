/** Values for property tests, with the boundaries of bit-packed fields among them. */
import fc from "fast-check";

/** Numbers below `limit`, with every power of two, and its neighbours, as likely as all others together. */
export function around(limit: number): fc.Arbitrary<number> {
  const edges = new Set<number>([0, limit - 1]);
  for (let power = 1; power < limit; power *= 2) for (const n of [power - 1, power, power + 1]) edges.add(n);
  return fc.oneof(
    fc.constantFrom(...[...edges].filter((edge) => edge < limit)),
    fc.integer({ min: 0, max: limit - 1 }),
  );
}

/** Block numbers: 36 bits. */
export const pbns = around(2 ** 36);
