/** Builds a pool's metadata from what is known of it: mappings and details, device by device. Counts follow from them. */
import { VdoError } from "@vdo/base";
import type { BlockDevice } from "@vdo/block-device";
import { type Steps, Store } from "@vdo/persistent-data";
import { METADATA_BLOCK_BYTES } from "../constants.ts";
import type { DeviceDetails } from "../format/device-details.ts";
import { spaceMapRoot, thinSuperblock } from "../format/superblock.ts";
import { formatState } from "./pool-metadata.ts";
import type { PoolState } from "./pool-state.ts";
import { SUPERBLOCK_FORMAT } from "./superblock-kind.ts";

/** What the superblock of the new metadata says. */
export interface PoolFacts {
  time: number;
  transactionId: bigint;
  /** Sectors. */
  blockSectors: number;
  dataBlocks: number;
}

/** `length` blocks from virtual block `begin` at data block `data`. */
interface Run {
  begin: number;
  data: number;
  length: number;
  time: number;
}

export class PoolBuilder {
  readonly #state: PoolState;
  readonly #facts: PoolFacts;
  #root = 0;
  #next = 0;
  #lastId = -1;

  private constructor(state: PoolState, facts: PoolFacts) {
    this.#state = state;
    this.#facts = facts;
  }

  /** Begins on `device`, whose content is given up: its first block is zeroed at once, all else waits for {@link finish}. */
  static async begin(device: BlockDevice, facts: PoolFacts): Promise<PoolBuilder> {
    await device.write(0, new Uint8Array(Math.max(METADATA_BLOCK_BYTES, device.blockSize)));
    await device.flush();
    const store = await Store.create({ device, superblock: SUPERBLOCK_FORMAT });
    const state = await formatState(store, device, facts.blockSectors);
    await store.write(() => state.data.extend(facts.dataBlocks));
    return new PoolBuilder(state, facts);
  }

  async beginDevice(): Promise<void> {
    this.#root = await this.#write(() => this.#state.trees.bottom.empty());
    this.#next = 0;
  }

  /** Runs come in the order of their virtual blocks. Throws `VDO_THIN_SYNTAX`. */
  async add({ begin, data, length, time }: Run): Promise<void> {
    if (begin < this.#next) throw outOfOrder(`block ${begin} comes after block ${this.#next - 1}`);
    if (length < 1 || data + length > this.#facts.dataBlocks) {
      throw outOfOrder(`block out of bounds: data blocks ${data} to ${data + length - 1} of ${this.#facts.dataBlocks}`);
    }
    this.#next = begin + length;
    const { bottom } = this.#state.trees;
    await this.#write(
      function* (this: PoolBuilder): Steps<void> {
        for (let i = 0; i < length; i++) {
          ({ root: this.#root } = yield* bottom.insert(this.#root, [begin + i], { block: data + i, time }));
        }
        yield* this.#state.data.increment(data, data + length);
      }.bind(this),
    );
  }

  /** Devices come in the order of their ids. Throws `VDO_THIN_SYNTAX`. */
  async endDevice(id: number, details: DeviceDetails): Promise<void> {
    if (id <= this.#lastId) throw outOfOrder(`device ${id} comes after device ${this.#lastId}`);
    this.#lastId = id;
    const state = this.#state;
    await this.#write(
      function* (this: PoolBuilder): Steps<void> {
        ({ root: state.mappingRoot } = yield* state.trees.roots.insert(state.mappingRoot, [id], this.#root));
        ({ root: state.detailsRoot } = yield* state.trees.details.insert(state.detailsRoot, [id], details));
      }.bind(this),
    );
  }

  /** Makes it a pool: until here the device is unformatted. */
  async finish(): Promise<void> {
    const { store, superblock, mappingRoot, detailsRoot, data } = this.#state;
    const { time, transactionId } = this.#facts;
    await store.commit(({ view }) => {
      const dataSpaceMap = spaceMapRoot.decode(data.rootRecord());
      thinSuperblock.set(view, 0, { ...superblock, time, transactionId, mappingRoot, detailsRoot, dataSpaceMap });
    });
    await store.close();
  }

  #write<T>(make: () => Steps<T>): Promise<T> {
    return this.#state.store.write(make);
  }
}

function outOfOrder(text: string): VdoError {
  return new VdoError("VDO_THIN_SYNTAX", `${text}: the mappings are not those of a pool`, { text });
}
