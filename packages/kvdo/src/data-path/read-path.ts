/** A read from its block map slot to the user's buffer (Linux 6.12, data vio read path). */
import { VdoError } from "@vdo/base";
import type { BlockMap } from "../block-map/block-map.ts";
import type { BlockMapPage } from "../block-map/block-map-page.ts";
import type { BlockCompressor } from "../compute/index.ts";
import { isCompressedState, isValidMapping } from "../format/index.ts";
import type { BlockReader } from "./block-reader.ts";
import type { DataVio, VioStep } from "./data-vio.ts";
import { decodeBlock } from "./fragment-reader.ts";
import { asError } from "./write-path.ts";

export interface ReadPathOptions {
  blockMap: BlockMap;
  reader: BlockReader;
  compressor: BlockCompressor;
  isDataBlock: (pbn: number) => boolean;
  finish: VioStep;
}

export class ReadPath {
  readonly #o: ReadPathOptions;

  constructor(options: ReadPathOptions) {
    this.#o = options;
  }

  /** The vio's slot was found (or `vio.error` is set). */
  readonly begin: VioStep = (vio) => {
    if (vio.error !== null) return this.#o.finish(vio);
    if (vio.leafPbn === 0) return this.#zeros(vio);
    vio.onPage = this.#mapping;
    this.#o.blockMap.leaves.get(vio, vio.leafPbn, false);
  };

  readonly #mapping = (vio: DataVio, page: BlockMapPage | null): void => {
    if (page === null) return this.#o.finish(vio);
    const pbn = page.mappedPbn(vio.leafSlot);
    const state = page.mappedState(vio.leafSlot);
    if (!isValidMapping(pbn, state) || (pbn !== 0 && !this.#o.isDataBlock(pbn))) {
      vio.error = new VdoError(
        "VDO_BAD_MAPPING",
        `logical block ${vio.lbn} is mapped to block ${pbn} in state ${state}, which cannot be: its data is lost; write it again`,
        { pbn, state },
      );
      return this.#o.finish(vio);
    }
    if (pbn === 0) return this.#zeros(vio);
    vio.oldState = state;
    vio.ioPbn = pbn;
    vio.ioBytes = vio.data;
    vio.onRead = this.#read;
    this.#o.reader.add(vio);
  };

  readonly #read = (vio: DataVio, bytes: Buffer | null, at: number): void => {
    try {
      if (bytes === null) throw vio.ioError;
      if (isCompressedState(vio.oldState)) {
        decodeBlock(this.#o.compressor, bytes, at, vio.ioPbn, vio.oldState, vio.scratch);
        copyOut(vio, vio.scratch, 0);
      } else copyOut(vio, bytes, at);
    } catch (error) {
      vio.error = asError(error, "read", vio.ioPbn);
    }
    this.#o.finish(vio);
  };

  #zeros(vio: DataVio): void {
    vio.user?.buffer?.fill(0, vio.userOffset, vio.userOffset + vio.blockLength);
    this.#o.finish(vio);
  }
}

/** Copies the part that the vio's user asked for, of the block at byte `at` of `bytes`. */
export function copyOut(vio: DataVio, bytes: Buffer, at: number): void {
  const { user } = vio;
  if (user === null || user.buffer === null) return;
  const from = at + vio.blockOffset;
  bytes.copy(user.buffer, vio.userOffset, from, from + vio.blockLength);
}
