/** Stores the mappings of the recovery journal in the block map pages (Linux 6.12, block map recovery). */
import { VdoError } from "@vdo/base";
import { BLOCK_SIZE } from "../constants.ts";
import {
  formatBlockMapPage,
  isPageInitialised,
  judgeBlockMapPage,
  mappingAt,
  setPageInitialised,
  writeMapping,
} from "../format/index.ts";
import { IO_PAGE_CACHE, type StorageIo } from "../io/storage-io.ts";
import type { MappingChanges } from "./journal-entries.ts";

/** Pages under way at once. */
const PAGES_IN_FLIGHT = 64;

export interface BlockMapReplay {
  io: StorageIo;
  nonce: bigint;
  changes: MappingChanges;
  onProgress: (pages: number) => void;
}

/**
 * Idempotent: absolute values are stored. The journal is stable already, so the pages may be written at once; a page that
 * was never written is written twice, as always. Ends with a device flush. Throws `VDO_BAD_PAGE` and what the storage throws.
 */
export async function replayBlockMap({ io, nonce, changes, onProgress }: BlockMapReplay): Promise<void> {
  const pages = changes.pages()[Symbol.iterator]();
  let done = 0;
  const worker = async (): Promise<void> => {
    const bytes = new Uint8Array(BLOCK_SIZE);
    const view = new DataView(bytes.buffer);
    for (let next = pages.next(); next.done !== true; next = pages.next()) {
      const pbn = next.value;
      await io.readMeta(IO_PAGE_CACHE, pbn, bytes);
      applyChanges({ bytes, view, nonce, pbn }, changes);
      const wasInitialised = isPageInitialised(bytes);
      await io.writeMeta(IO_PAGE_CACHE, pbn, bytes);
      if (!wasInitialised) {
        setPageInitialised(bytes, true);
        await io.writeMeta(IO_PAGE_CACHE, pbn, bytes, { preflush: true });
      }
      done++;
      if (done % 256 === 0) onProgress(done);
    }
  };
  await Promise.all(Array.from({ length: PAGES_IN_FLIGHT }, worker));
  await io.flush(IO_PAGE_CACHE);
}

/** A page as read from `pbn`, with every change of the journal made. Throws `VDO_BAD_PAGE` for one that is another page. */
export function applyChanges(
  { bytes, view, nonce, pbn }: { bytes: Uint8Array; view: DataView; nonce: bigint; pbn: number },
  changes: MappingChanges,
): void {
  const verdict = judgeBlockMapPage(view, nonce, pbn);
  if (verdict === "bad") {
    throw new VdoError(
      "VDO_BAD_PAGE",
      `block map page at block ${pbn} carries the number of another page; rebuild the volume (vdo forceRebuild)`,
      { structure: "block map page", field: "pbn", expected: pbn, actual: view.getUint32(16, true) },
    );
  }
  if (verdict === "uninitialised") formatBlockMapPage(bytes, view, nonce, pbn);
  changes.apply(pbn, (slot, newPbn, newState) => writeMapping(bytes, mappingAt(slot), newPbn, newState));
}
