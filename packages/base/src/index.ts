export { equalBytes, firstDifference, fromHex, isZero, toHex } from "./bytes.ts";
export { type Clock, systemClock } from "./clock.ts";
export { crc32, crc32c } from "./crc32.ts";
export { type ErrorCode, type ErrorData, errorMessage, invariant, isVdoError, VdoError } from "./errors.ts";
export {
  array,
  ascii,
  bytes,
  type Field,
  type FieldPlace,
  getU64,
  type PlacedField,
  type Struct,
  type StructValue,
  setU64,
  struct,
  u8,
  u16be,
  u16le,
  u32be,
  u32le,
  u64be,
  u64beBig,
  u64le,
  u64leBig,
  type ValueOf,
  viewOf,
} from "./layout.ts";
export { Random } from "./random.ts";
