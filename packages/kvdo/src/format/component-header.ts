/** Headers of components: an id, a version and a size, checked in this order. */
import { struct, u32le, u64le, type ValueOf, VdoError } from "@vdo/base";
import type {} from "../errors.ts";

/** A version as two words. */
export const packedVersion = struct("PackedVersion", 8, { major: u32le, minor: u32le });
export type PackedVersion = ValueOf<typeof packedVersion>;

/** What comes before each component of a super block, and after the magic of a geometry block. */
export const componentHeader = struct("ComponentHeader", 20, {
  id: u32le,
  version: packedVersion,
  /** Bytes of data after the header; in a geometry block, of the whole encoding. */
  size: u64le,
});
export type ComponentHeader = ValueOf<typeof componentHeader>;

function refuse(
  code: "VDO_INCORRECT_COMPONENT" | "VDO_UNSUPPORTED_VERSION",
  facts: { structure: string; field: string; expected: unknown; actual: unknown },
): never {
  const { structure, field, expected, actual } = facts;
  throw new VdoError(code, `${structure}: ${field} is ${actual}, ${expected} is expected`, facts);
}

/** Throws `VDO_UNSUPPORTED_VERSION` unless both numbers are as expected. */
export function checkVersion(structure: string, actual: PackedVersion, expected: PackedVersion): void {
  if (actual.major === expected.major && actual.minor === expected.minor) return;
  refuse("VDO_UNSUPPORTED_VERSION", {
    structure,
    field: "version",
    expected: `${expected.major}.${expected.minor}`,
    actual: `${actual.major}.${actual.minor}`,
  });
}

/**
 * Checks the header at byte `at`: id, then version, then size. `sizeMin` and `sizeMax` widen the size allowed; without
 * them it is exact. Throws `VDO_INCORRECT_COMPONENT` for another id, else `VDO_UNSUPPORTED_VERSION`.
 */
export function checkHeader(
  structure: string,
  { view, at }: { view: DataView; at: number },
  expected: ComponentHeader,
  range: { sizeMin?: number; sizeMax?: number } = {},
): void {
  // Field by field: damage may put a size there that no count can hold, and the id is judged first.
  const id = componentHeader.at.id.get(view, at);
  if (id !== expected.id) {
    refuse("VDO_INCORRECT_COMPONENT", { structure, field: "id", expected: expected.id, actual: id });
  }
  checkVersion(structure, componentHeader.at.version.get(view, at), expected.version);
  const sizeMin = BigInt(range.sizeMin ?? expected.size);
  const sizeMax = BigInt(range.sizeMax ?? expected.size);
  const size = view.getBigUint64(at + componentHeader.at.size.offset, true);
  if (size < sizeMin || size > sizeMax) {
    const wanted = sizeMin === sizeMax ? Number(sizeMin) : `${sizeMin} to ${sizeMax}`;
    refuse("VDO_UNSUPPORTED_VERSION", { structure, field: "size", expected: wanted, actual: Number(size) });
  }
}
