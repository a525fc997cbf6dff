/** What holds for every declared layout, as tests. Independent of any test framework. */
import { equalBytes, toHex } from "../bytes.ts";
import { isVdoError } from "../errors.ts";
import { type Field, type Struct, viewOf } from "../layout.ts";
import { Random } from "../random.ts";

/** Where tests are registered; vitest's `describe` and `test` fit. */
export interface LawRunner {
  describe(name: string, body: () => void): unknown;
  test(name: string, body: () => void): unknown;
  /** Compares the offset table with the one recorded; vitest: `(text) => expect(text).toMatchSnapshot()`. */
  snapshot?(table: string): void;
}

// biome-ignore lint/suspicious/noExplicitAny: laws hold for structs of any fields.
type AnyStruct = Struct<Record<string, Field<any>>>;

const SEED = 20_260_101;
const ROUNDS = 50;

function check(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Error(`layout law broken: ${what}`);
}

/** The offset table of a layout: one line per field with offset, size, kind and name. */
export function layoutTable(layout: AnyStruct): string {
  const lines = layout.fields.map(
    ({ name, offset, size, kind }) =>
      `${String(offset).padStart(6)} ${String(size).padStart(6)}  ${kind.padEnd(16)} ${name}`,
  );
  return [`${layout.name}: ${layout.size} bytes`, ...lines].join("\n");
}

/**
 * Registers the laws for `layout`: the fields tile it, every byte survives decoding and encoding (or is refused with
 * `VDO_CORRUPT`, as counts above 2^53 - 1 are), field accessors agree with the whole, too few bytes are refused, and the
 * offset table is the recorded one.
 */
export function layoutLaws(layout: AnyStruct, runner: LawRunner): void {
  runner.describe(`layout ${layout.name}`, () => {
    runner.test("has fields that follow each other and fill it", () => {
      let offset = 0;
      for (const field of layout.fields) {
        check(field.offset === offset, `${field.name} begins at ${field.offset}, ${offset} is expected`);
        check(field.size > 0, `${field.name} has a size`);
        offset += field.size;
      }
      check(offset === layout.size, `the fields fill ${offset} of ${layout.size} bytes`);
    });
    runner.test("keeps every byte through decoding and encoding, or refuses it", () => survivalLaw(layout));
    runner.test("has field accessors that agree with the whole and touch only their bytes", () => accessorLaw(layout));
    runner.test("refuses too few bytes and pads with zeros", () => lengthLaw(layout));
    if (runner.snapshot !== undefined) {
      runner.test("has the offset table on record", () => runner.snapshot?.(layoutTable(layout)));
    }
  });
}

/** The bytes after decoding and encoding; undefined when they are refused. */
function roundTrip(layout: AnyStruct, bytes: Uint8Array): Uint8Array | undefined {
  try {
    return layout.encode(layout.decode(bytes));
  } catch (error) {
    if (isVdoError(error, "VDO_CORRUPT")) return undefined;
    throw error;
  }
}

/** Positions whose top values are refused: the high bytes of counts. The others may hold anything. */
function freePositions(layout: AnyStruct): boolean[] {
  return Array.from({ length: layout.size }, (_, position) => {
    const bytes = new Uint8Array(layout.size);
    bytes[position] = 0xff;
    return roundTrip(layout, bytes) !== undefined;
  });
}

function randomBytes(random: Random, free: readonly boolean[]): Uint8Array {
  const bytes = random.fill(new Uint8Array(free.length));
  free.forEach((isFree, position) => {
    if (!isFree) bytes[position] = 0;
  });
  return bytes;
}

function survivalLaw(layout: AnyStruct): void {
  const random = new Random(SEED);
  const free = freePositions(layout);
  for (let position = 0; position < layout.size; position++) {
    for (const value of [0x01, 0x7f, 0x80, 0xff]) {
      const bytes = new Uint8Array(layout.size);
      bytes[position] = value;
      const after = roundTrip(layout, bytes);
      check(after === undefined || equalBytes(after, bytes), `byte ${position} of value ${value} does not survive`);
    }
  }
  for (let round = 0; round < ROUNDS; round++) {
    const bytes = randomBytes(random, free);
    const after = roundTrip(layout, bytes);
    check(after !== undefined && equalBytes(after, bytes), `seed ${SEED}, round ${round}: ${toHex(bytes)}`);
  }
}

function accessorLaw(layout: AnyStruct): void {
  const random = new Random(SEED);
  const free = freePositions(layout);
  const base = 5;
  for (let round = 0; round < ROUNDS; round++) {
    const bytes = new Uint8Array(base + layout.size + 3).fill(0xcc);
    bytes.set(randomBytes(random, free), base);
    const view = viewOf(bytes);
    const whole = layout.get(view, base);
    for (const { name, offset, size } of layout.fields) {
      const place = layout.at[name];
      check(place !== undefined && place.offset === offset && place.size === size, `${name} has its place`);
      check(
        JSON.stringify(plain(place.get(view, base))) === JSON.stringify(plain(whole[name])),
        `${name} reads the same`,
      );
      const copy = bytes.slice();
      copy.fill(0, base + offset, base + offset + size);
      place.set(viewOf(copy), base, whole[name]);
      check(equalBytes(copy, bytes), `setting ${name} restores its bytes and no others`);
    }
  }
}

/** A value in a form that JSON can show. */
function plain(value: unknown): unknown {
  if (typeof value === "bigint") return `${value}n`;
  if (value instanceof Uint8Array) return toHex(value);
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value === "object" && value !== null) {
    return Object.entries(value).map(([name, inner]) => [name, plain(inner)]);
  }
  return value;
}

function lengthLaw(layout: AnyStruct): void {
  check(roundTrip(layout, new Uint8Array(layout.size - 1)) === undefined, "one byte less is refused");
  const bytes = randomBytes(new Random(SEED), freePositions(layout));
  const padded = layout.encode(layout.decode(bytes), layout.size + 9);
  check(padded.length === layout.size + 9, "the length asked for");
  check(equalBytes(padded.subarray(0, layout.size), bytes), "the structure at the start");
  check(
    padded.subarray(layout.size).every((byte) => byte === 0),
    "zeros after it",
  );
}
