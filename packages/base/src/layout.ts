/**
 * On-disk structures as data.
 *
 * A structure is declared once with {@link struct}; its size, its decoder, its encoder, the offsets of its fields and the
 * printed layout table follow from the declaration.
 *
 * - Whole structures to typed objects (`get`, `set`): for cold paths.
 * - One field (`layout.at.field.get(view, base)`): for hot paths, nothing is allocated.
 * - 64-bit counts and block numbers are `number`s and are refused above 2^53 - 1; opaque 64-bit values (nonces) are `bigint`s.
 */
import { invariant, isVdoError, VdoError } from "./errors.ts";

/** How a value of type `T` is stored in a fixed number of bytes. */
export interface Field<T> {
  /** Bytes taken. */
  readonly size: number;
  /** Name for layout tables, for example `u32le` or `ascii[8]`. */
  readonly kind: string;
  get(view: DataView, at: number): T;
  set(view: DataView, at: number, value: T): void;
}

type FieldValue<F> = F extends Field<infer T> ? T : never;
// biome-ignore lint/suspicious/noExplicitAny: a struct has fields of any value types; their types are recovered by inference.
type AnyField = Field<any>;

export type StructValue<F extends Record<string, AnyField>> = { [K in keyof F]: FieldValue<F[K]> };

/** One row of a layout table. */
export interface FieldPlace {
  name: string;
  offset: number;
  size: number;
  kind: string;
}

/** A field with its offset in the structure applied: `base` is the offset of the structure's first byte in the view. */
export interface PlacedField<T> {
  readonly offset: number;
  readonly size: number;
  get(view: DataView, base: number): T;
  set(view: DataView, base: number, value: T): void;
}

/** A declared structure; it is itself a field, so structures nest. */
export interface Struct<F extends Record<string, AnyField>> extends Field<StructValue<F>> {
  readonly name: string;
  readonly fields: readonly FieldPlace[];
  readonly at: { readonly [K in keyof F]: PlacedField<FieldValue<F[K]>> };
  /** Decodes from the start of `bytes`. Throws `VDO_CORRUPT` when there are fewer than `size` bytes. */
  decode(bytes: Uint8Array): StructValue<F>;
  /** Encodes into new zeroed bytes; `length` may be larger than `size`, the rest is zero. */
  encode(value: StructValue<F>, length?: number): Uint8Array;
}

/** The value type of a declared structure. */
export type ValueOf<S> = S extends Field<infer T> ? T : never;

/** A `DataView` over the same memory as `bytes`. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/**
 * Declares a structure whose fields follow each other without gaps, in the order of the keys.
 * `size` is the figure of the format's description, checked when the module loads.
 */
export function struct<F extends Record<string, AnyField>>(name: string, size: number, fields: F): Struct<F> {
  const places: FieldPlace[] = [];
  const placed: Record<string, PlacedField<unknown>> = {};
  const names = Object.keys(fields) as (keyof F & string)[];
  let offset = 0;
  for (const fieldName of names) {
    const field = fields[fieldName] as AnyField;
    const start = offset;
    places.push({ name: fieldName, offset: start, size: field.size, kind: field.kind });
    placed[fieldName] = {
      offset: start,
      size: field.size,
      get: (view, base) => field.get(view, base + start),
      set: (view, base, value) => field.set(view, base + start, value),
    };
    offset += field.size;
  }
  invariant(offset === size, `the fields of ${name} add up to its stated size`);

  const layout: Struct<F> = {
    name,
    size,
    kind: name,
    fields: places,
    at: placed as Struct<F>["at"],
    get(view, at) {
      const value: Record<string, unknown> = {};
      for (const place of places) {
        try {
          value[place.name] = (fields[place.name] as AnyField).get(view, at + place.offset);
        } catch (error) {
          throw withPlace(error, name, place);
        }
      }
      return value as StructValue<F>;
    },
    set(view, at, value) {
      for (const place of places) (fields[place.name] as AnyField).set(view, at + place.offset, value[place.name]);
    },
    decode(bytes) {
      if (bytes.byteLength < size) {
        throw new VdoError("VDO_CORRUPT", `${name}: ${bytes.byteLength} bytes are too few, ${size} are needed`, {
          structure: name,
          field: "length",
          expected: size,
          actual: bytes.byteLength,
        });
      }
      return layout.get(viewOf(bytes), 0);
    },
    encode(value, length = size) {
      invariant(length >= size, "an encoded structure fits in the length asked for");
      const bytes = new Uint8Array(length);
      layout.set(viewOf(bytes), 0, value);
      return bytes;
    },
  };
  return layout;
}

/** What stands for the structure when a value does not know where it is. */
const BARE_COUNT = "u64";

/** Names structure and field in the refusal of a bare value; other errors, also of nested structures, have their place. */
function withPlace(error: unknown, structure: string, { name }: FieldPlace): unknown {
  if (!isVdoError(error, "VDO_CORRUPT") || error.data.structure !== BARE_COUNT) return error;
  return new VdoError("VDO_CORRUPT", `${structure}.${name}: ${error.message}`, {
    ...error.data,
    structure,
    field: name,
  });
}

function refuseUnsafe(kind: string, value: number | bigint): never {
  throw new VdoError("VDO_CORRUPT", `${kind}: ${value} is not a count this program can hold (0 to 2^53 - 1)`, {
    structure: kind,
    field: "value",
    expected: "0 to 2^53 - 1",
    actual: value,
  });
}

export const u8: Field<number> = {
  size: 1,
  kind: "u8",
  get: (view, at) => view.getUint8(at),
  set: (view, at, value) => view.setUint8(at, value),
};

function unsigned16(littleEndian: boolean): Field<number> {
  return {
    size: 2,
    kind: littleEndian ? "u16le" : "u16be",
    get: (view, at) => view.getUint16(at, littleEndian),
    set: (view, at, value) => view.setUint16(at, value, littleEndian),
  };
}

function unsigned32(littleEndian: boolean): Field<number> {
  return {
    size: 4,
    kind: littleEndian ? "u32le" : "u32be",
    get: (view, at) => view.getUint32(at, littleEndian),
    set: (view, at, value) => view.setUint32(at, value, littleEndian),
  };
}

/** Reads an unsigned 64-bit count as a number. Throws `VDO_CORRUPT` above 2^53 - 1. */
export function getU64(view: DataView, at: number, littleEndian: boolean): number {
  const low = view.getUint32(littleEndian ? at : at + 4, littleEndian);
  const high = view.getUint32(littleEndian ? at + 4 : at, littleEndian);
  if (high > 0x1fffff) refuseUnsafe(BARE_COUNT, (BigInt(high) << 32n) | BigInt(low));
  return high * 0x1_0000_0000 + low;
}

/** Writes a count of 0 to 2^53 - 1 as an unsigned 64-bit number. */
export function setU64(view: DataView, at: number, value: number, littleEndian: boolean): void {
  if (!Number.isSafeInteger(value) || value < 0) refuseUnsafe(BARE_COUNT, value);
  view.setUint32(littleEndian ? at : at + 4, value >>> 0, littleEndian);
  view.setUint32(littleEndian ? at + 4 : at, Math.floor(value / 0x1_0000_0000), littleEndian);
}

function unsigned64(littleEndian: boolean): Field<number> {
  return {
    size: 8,
    kind: littleEndian ? "u64le" : "u64be",
    get: (view, at) => getU64(view, at, littleEndian),
    set: (view, at, value) => setU64(view, at, value, littleEndian),
  };
}

function opaque64(littleEndian: boolean): Field<bigint> {
  return {
    size: 8,
    kind: littleEndian ? "u64le (opaque)" : "u64be (opaque)",
    get: (view, at) => view.getBigUint64(at, littleEndian),
    set: (view, at, value) => view.setBigUint64(at, value, littleEndian),
  };
}

export const u16le = unsigned16(true);
export const u16be = unsigned16(false);
export const u32le = unsigned32(true);
export const u32be = unsigned32(false);
/** A count or block number: a `number`, refused above 2^53 - 1. */
export const u64le = unsigned64(true);
/** A count or block number: a `number`, refused above 2^53 - 1. */
export const u64be = unsigned64(false);
/** An opaque value, for example a nonce: a `bigint`. */
export const u64leBig = opaque64(true);
/** An opaque value: a `bigint`. */
export const u64beBig = opaque64(false);

/** `count` bytes, copied out and in. */
export function bytes(count: number): Field<Uint8Array> {
  return {
    size: count,
    kind: `bytes[${count}]`,
    get: (view, at) => new Uint8Array(view.buffer, view.byteOffset + at, count).slice(),
    set: (view, at, value) => {
      invariant(value.byteLength === count, "a byte field is given exactly its size");
      new Uint8Array(view.buffer, view.byteOffset + at, count).set(value);
    },
  };
}

/** `count` characters of one byte each; every byte value survives decoding and encoding (Latin-1). */
export function ascii(count: number): Field<string> {
  return {
    size: count,
    kind: `ascii[${count}]`,
    get: (view, at) => {
      let text = "";
      for (let i = 0; i < count; i++) text += String.fromCharCode(view.getUint8(at + i));
      return text;
    },
    set: (view, at, value) => {
      invariant(value.length === count, "an ascii field is given exactly its length");
      for (let i = 0; i < count; i++) view.setUint8(at + i, value.charCodeAt(i));
    },
  };
}

/** `count` values of one field after each other. */
export function array<T>(field: Field<T>, count: number): Field<T[]> {
  return {
    size: field.size * count,
    kind: `${field.kind}[${count}]`,
    get: (view, at) => Array.from({ length: count }, (_, i) => field.get(view, at + i * field.size)),
    set: (view, at, value) => {
      invariant(value.length === count, "an array field is given exactly its number of values");
      for (let i = 0; i < count; i++) field.set(view, at + i * field.size, value[i] as T);
    },
  };
}
