/**
 * The super block: the first block of the data region. Its 438 bytes lie within one sector, so that they cannot tear.
 *
 * Order of checks when reading: header, checksum, volume version, component versions and headers, flat pages. Whether its
 * figures make sense together is `checkConfiguration`'s business.
 */
import { struct, u32le, type ValueOf, VdoError, viewOf } from "@vdo/base";
import { BLOCK_MAP_FLAT_PAGE_ORIGIN, BLOCK_SIZE } from "../constants.ts";
import { BLOCK_MAP_HEADER, blockMapComponent } from "./block-map-component.ts";
import { checkChecksum, volumeChecksum } from "./checksum.ts";
import { checkHeader, checkVersion, componentHeader, packedVersion } from "./component-header.ts";
import { LAYOUT_HEADER, layoutComponent } from "./layout-component.ts";
import { RECOVERY_JOURNAL_HEADER, recoveryJournalComponent } from "./recovery-journal-component.ts";
import { SLAB_DEPOT_HEADER, slabDepotComponent } from "./slab-depot-component.ts";
import { VDO_COMPONENT_VERSION, vdoComponent } from "./vdo-component.ts";

export const superBlock = struct("SuperBlock", 438, {
  header: componentHeader,
  /** Copy of the geometry block's; ignored. */
  releaseNumber: u32le,
  volumeVersion: packedVersion,
  vdo: vdoComponent,
  layout: layoutComponent,
  recoveryJournal: recoveryJournalComponent,
  slabDepot: slabDepotComponent,
  blockMap: blockMapComponent,
  checksum: u32le,
});
export type SuperBlock = ValueOf<typeof superBlock>;

export const SUPER_BLOCK_HEADER = { id: 0, version: { major: 12, minor: 0 }, size: 418 };
export const VOLUME_VERSION = { major: 67, minor: 0 };

const CHECKSUM_AT = superBlock.at.checksum.offset;

/**
 * Decodes and checks a super block. Throws `VDO_INCORRECT_COMPONENT`, `VDO_UNSUPPORTED_VERSION`, `VDO_CHECKSUM`,
 * `VDO_BAD_CONFIGURATION` (flat pages), or `VDO_CORRUPT` when there are too few bytes.
 */
export function decodeSuperBlock(block: Uint8Array): SuperBlock {
  if (block.length < superBlock.size) superBlock.decode(block);
  const view = viewOf(block);
  const headerOf = (component: keyof typeof superBlock.at) => ({ view, at: superBlock.at[component].offset });
  checkHeader(superBlock.name, headerOf("header"), SUPER_BLOCK_HEADER, {
    sizeMin: 4,
    sizeMax: SUPER_BLOCK_HEADER.size,
  });
  checkChecksum(superBlock.name, block.subarray(0, CHECKSUM_AT), superBlock.at.checksum.get(view, 0));
  checkVersion("Volume", superBlock.at.volumeVersion.get(view, 0), VOLUME_VERSION);
  checkVersion(vdoComponent.name, vdoComponent.at.version.get(view, superBlock.at.vdo.offset), VDO_COMPONENT_VERSION);
  checkHeader(layoutComponent.name, headerOf("layout"), LAYOUT_HEADER, { sizeMax: Number.MAX_SAFE_INTEGER });
  checkHeader(recoveryJournalComponent.name, headerOf("recoveryJournal"), RECOVERY_JOURNAL_HEADER);
  checkHeader(slabDepotComponent.name, headerOf("slabDepot"), SLAB_DEPOT_HEADER);
  checkHeader(blockMapComponent.name, headerOf("blockMap"), BLOCK_MAP_HEADER);
  const value = superBlock.decode(block);
  checkFlatPages("flatPageOrigin", value.blockMap.flatPageOrigin, BLOCK_MAP_FLAT_PAGE_ORIGIN);
  checkFlatPages("flatPageCount", value.blockMap.flatPageCount, 0);
  return value;
}

function checkFlatPages(field: string, actual: number, expected: number): void {
  if (actual === expected) return;
  throw new VdoError("VDO_BAD_CONFIGURATION", `BlockMapComponent: ${field} is ${actual}, ${expected} is expected`, {
    structure: blockMapComponent.name,
    field,
    expected,
    actual,
  });
}

/**
 * Encodes `value` into the first 438 bytes of `block` (by default a new zeroed block), checksum included, and leaves the
 * other bytes as they are.
 */
export function encodeSuperBlock(value: SuperBlock, block: Uint8Array = new Uint8Array(BLOCK_SIZE)): Uint8Array {
  const view = viewOf(block);
  superBlock.set(view, 0, value);
  superBlock.at.checksum.set(view, 0, volumeChecksum(block.subarray(0, CHECKSUM_AT)));
  return block;
}
