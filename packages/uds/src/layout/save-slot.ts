/** The header of a save slot: an empty slot, or where the parts of a saved state are. */
import { struct, u32le, u64le, u64leBig } from "@vdo/base";
import { ZONES_MAX } from "../constants.ts";
import { corrupt } from "../errors.ts";
import { saveNonce } from "./nonces.ts";
import {
  checkRegions,
  decodeRegionTable,
  encodeRegionTable,
  ONLY_INSTANCE,
  type Region,
  RegionKind,
  TableType,
} from "./region-table.ts";

export const saveHeader = struct("SaveHeader", 64, {
  timestamp: u64le,
  nonce: u64leBig,
  version: u32le,
  unused0: u32le,
  signature: u32le,
  versionId: u32le,
  newestChapter: u64le,
  oldestChapter: u64le,
  lastSave: u64leBig,
  unused1: u32le,
  unused2: u32le,
});

const SIGNATURE = 0xffffffff;
const VERSION_ID = 301;
const NO_CHAPTER = (1n << 64n) - 1n;
const EMPTY_PAYLOAD_BYTES = 24;

/** A valid save. */
export interface SavedState {
  /** Milliseconds since 1970. */
  readonly timestamp: number;
  readonly newestChapter: number;
  readonly oldestChapter: number;
  readonly pageMap: Region;
  /** One region per zone that saved. */
  readonly volumeIndex: readonly Region[];
  readonly openChapter: Region;
}

/** The fixed sizes that a slot is cut by. */
export interface SlotSizes {
  readonly pageMapBlocks: number;
  readonly openChapterBlocks: number;
}

/** The regions of a slot saved by `zones` zones; 0 zones for an empty slot. */
function slotRegions(slot: Region, { pageMapBlocks, openChapterBlocks }: SlotSizes, zones: number): Region[] {
  const regions: Region[] = [];
  let at = slot.startBlock;
  const add = (kind: number, blockCount: number, instance = ONLY_INSTANCE): void => {
    regions.push({ startBlock: at, blockCount, kind, instance });
    at += blockCount;
  };
  add(RegionKind.HEADER, 1);
  add(RegionKind.PAGE_MAP, pageMapBlocks);
  if (zones > 0) {
    const perZone = Math.floor((slot.blockCount - 1 - pageMapBlocks - openChapterBlocks) / zones);
    for (let zone = 0; zone < zones; zone++) add(RegionKind.VOLUME_INDEX, perZone, zone);
    add(RegionKind.OPEN_CHAPTER, openChapterBlocks);
  }
  const free = slot.startBlock + slot.blockCount - at;
  if (free > 0) add(RegionKind.FREE, free);
  return regions;
}

export function encodeEmptySlot(slot: Region, sizes: SlotSizes): Uint8Array {
  return encodeRegionTable({
    type: TableType.EMPTY,
    regionBlocks: slot.blockCount,
    regions: slotRegions(slot, sizes, 0),
    payload: new Uint8Array(EMPTY_PAYLOAD_BYTES),
  });
}

/** Where the parts of a save go. */
export function planSave(
  slot: Region,
  sizes: SlotSizes,
  save: { timestamp: number; newestChapter: number; oldestChapter: number },
  zones = 1,
): SavedState {
  return { ...save, ...partsOf(slotRegions(slot, sizes, zones)) };
}

function partsOf(regions: readonly Region[]): Pick<SavedState, "pageMap" | "volumeIndex" | "openChapter"> {
  return {
    pageMap: regions[1] as Region,
    volumeIndex: regions.filter((region) => region.kind === RegionKind.VOLUME_INDEX),
    openChapter: regions.find((region) => region.kind === RegionKind.OPEN_CHAPTER) as Region,
  };
}

export function encodeSave(slot: Region, sizes: SlotSizes, state: SavedState, volumeNonce: bigint): Uint8Array {
  const { timestamp, newestChapter, oldestChapter } = state;
  const payload = saveHeader.encode({
    timestamp,
    nonce: saveNonce(volumeNonce, { timestamp, startBlock: slot.startBlock }),
    version: 1,
    unused0: 0,
    signature: SIGNATURE,
    versionId: VERSION_ID,
    newestChapter,
    oldestChapter,
    lastSave: newestChapter === 0 ? NO_CHAPTER : BigInt(newestChapter - 1),
    unused1: 0,
    unused2: 0,
  });
  return encodeRegionTable({
    type: TableType.SAVED,
    regionBlocks: slot.blockCount,
    regions: slotRegions(slot, sizes, state.volumeIndex.length),
    payload,
  });
}

/**
 * The saved state that a slot's header describes; undefined when the slot is empty. Throws `VDO_CORRUPT` (or
 * `UDS_UNSUPPORTED_VERSION`) when the header cannot be used; the caller then treats the slot as empty.
 */
export function decodeSlot(
  block: Uint8Array,
  slot: Region,
  sizes: SlotSizes,
  volumeNonce: bigint,
): SavedState | undefined {
  const name = `save slot ${slot.instance}`;
  const table = decodeRegionTable(block);
  if (table === undefined) throw corrupt(name, "magic", { expected: "a region table", actual: "other bytes" });
  if (table.type === TableType.EMPTY) return undefined;
  if (table.type !== TableType.SAVED) throw corrupt(name, "type", { expected: TableType.SAVED, actual: table.type });
  if (table.payload.length !== saveHeader.size) {
    throw corrupt(name, "payload", { expected: saveHeader.size, actual: table.payload.length });
  }
  const header = saveHeader.decode(table.payload);
  if (header.version > 1) throw corrupt(name, "version", { expected: 1, actual: header.version });
  if (header.signature !== SIGNATURE)
    throw corrupt(name, "signature", { expected: SIGNATURE, actual: header.signature });
  if (header.versionId !== VERSION_ID)
    throw corrupt(name, "version id", { expected: VERSION_ID, actual: header.versionId });
  const { timestamp, newestChapter, oldestChapter } = header;
  const nonce = saveNonce(volumeNonce, { timestamp, startBlock: slot.startBlock });
  if (timestamp === 0 || header.nonce !== nonce)
    throw corrupt(name, "nonce", { expected: nonce, actual: header.nonce });
  const last = table.regions.at(-1);
  const zones = table.regions.length - 3 - (last?.kind === RegionKind.FREE ? 1 : 0);
  if (zones < 1 || zones > ZONES_MAX) throw corrupt(name, "zones", { expected: `1 to ${ZONES_MAX}`, actual: zones });
  checkRegions(name, table.regions, slotRegions(slot, sizes, zones));
  if (oldestChapter > newestChapter)
    throw corrupt(name, "oldest chapter", { expected: `at most ${newestChapter}`, actual: oldestChapter });
  return { timestamp, newestChapter, oldestChapter, ...partsOf(table.regions) };
}
