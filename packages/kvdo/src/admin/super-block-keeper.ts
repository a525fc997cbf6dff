/** The super block of an open volume: the commit point of every administrative step (Linux 6.12). */
import { BLOCK_SIZE } from "../constants.ts";
import {
  decodeSuperBlock,
  encodeSuperBlock,
  type SuperBlock,
  VOLUME_STATE,
  type VolumeState,
} from "../format/index.ts";
import { IO_META, type StorageIo } from "../io/storage-io.ts";

/** What changes from one save to the next. */
export interface SuperBlockUsage {
  /** Sequence number at which the recovery journal starts. */
  journalStart: number;
  logicalBlocksUsed: number;
  blockMapDataBlocks: number;
}

export class SuperBlockKeeper {
  readonly value: SuperBlock;
  readonly #io: StorageIo;
  readonly #pbn: number;
  readonly #block: Uint8Array;
  #failed = false;

  private constructor(io: StorageIo, pbn: number, block: Uint8Array, value: SuperBlock) {
    this.#io = io;
    this.#pbn = pbn;
    this.#block = block;
    this.value = value;
  }

  /** Reads and checks the super block at `pbn`. */
  static async load(io: StorageIo, pbn: number): Promise<SuperBlockKeeper> {
    const block = new Uint8Array(BLOCK_SIZE);
    await io.readMeta(IO_META, pbn, block);
    const value = decodeSuperBlock(block);
    // Every load and save of the original reverses the order of the partition records; readers accept any order.
    const { partitions, partitionCount } = value.layout;
    value.layout.partitions = [...partitions.slice(0, partitionCount).reverse(), ...partitions.slice(partitionCount)];
    return new SuperBlockKeeper(io, pbn, block, value);
  }

  get state(): VolumeState {
    return this.value.vdo.state as VolumeState;
  }

  /** Saves the super block with `state`; everything before is stable first. After a failure nothing is saved any more. */
  async save(state: VolumeState, usage: SuperBlockUsage): Promise<void> {
    if (this.#failed) return;
    const { vdo, recoveryJournal, slabDepot } = this.value;
    vdo.state = state;
    slabDepot.zoneCount = 1;
    recoveryJournal.journalStart = usage.journalStart;
    recoveryJournal.logicalBlocksUsed = usage.logicalBlocksUsed;
    recoveryJournal.blockMapDataBlocks = usage.blockMapDataBlocks;
    const block = encodeSuperBlock(this.value, this.#block.slice());
    const isRecordOfFailure = state === VOLUME_STATE.readOnly;
    try {
      await this.#io.writeMeta(IO_META, this.#pbn, block, { preflush: true, fua: true, isRecordOfFailure });
    } catch (error) {
      this.#failed = true;
      throw error;
    }
  }
}
