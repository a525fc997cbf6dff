/** A pool's metadata opened for reading: its superblock, or that of its metadata snapshot, its devices and mappings. */
import { isVdoError, VdoError } from "@vdo/base";
import type { BlockDevice } from "@vdo/block-device";
import { type DeviceDetails, deviceDetails } from "../format/device-details.ts";
import { mappingBlock, mappingTime } from "../format/mapping.ts";
import { decodeSuperblock, type ThinSuperblock, thinSuperblock } from "../format/superblock.ts";
import { MetadataReader } from "./metadata-reader.ts";
import { childOf, damage, keyOf, valueAt } from "./node.ts";
import { type LostRange, walkTree } from "./tree-walk.ts";

/** Which state of the pool to read. */
export interface ReadOptions {
  /** The metadata snapshot instead of the current state: true, or the block number its status line shows. */
  metadataSnapshot?: boolean | number;
}

/** A thin device as the trees have it. */
export interface DeviceRecord {
  id: number;
  /** Root of its mappings. */
  root: number;
  details: DeviceDetails;
}

/** Called for each mapping, ascending by virtual block. */
export type MappingVisitor = (virtualBlock: number, dataBlock: number, time: number) => void;

/** A running pool may be writing its superblock just when it is read: then half of it is new. */
const SUPERBLOCK_READS = 10;

async function readSuperblock(blocks: MetadataReader, attempts: number): Promise<ThinSuperblock> {
  for (let attempt = 1; ; attempt++) {
    try {
      return decodeSuperblock(await blocks.read(0));
    } catch (error) {
      if (attempt >= attempts || !isVdoError(error, "VDO_CORRUPT")) throw error;
      blocks.forget(0);
    }
  }
}

/** Reads a pool that nobody writes, or its metadata snapshot while somebody does. */
export class PoolReader {
  readonly blocks: MetadataReader;
  /** Block 0. */
  readonly superblock: ThinSuperblock;
  /** The superblock of what is read: block 0, or the metadata snapshot. */
  readonly view: ThinSuperblock;

  private constructor(blocks: MetadataReader, superblock: ThinSuperblock, view: ThinSuperblock) {
    this.blocks = blocks;
    this.superblock = superblock;
    this.view = view;
  }

  /** Throws `VDO_CORRUPT` when the superblock is damaged, `VDO_THIN_NOT_FOUND` when there is no metadata snapshot. */
  static async open(metadata: BlockDevice, options: ReadOptions = {}): Promise<PoolReader> {
    const blocks = new MetadataReader(metadata);
    const wanted = options.metadataSnapshot ?? false;
    const superblock = await readSuperblock(blocks, wanted === false ? 1 : SUPERBLOCK_READS);
    if (wanted === false) return new PoolReader(blocks, superblock, superblock);
    const held = wanted === true ? superblock.heldRoot : wanted;
    if (held === 0 || (wanted !== true && wanted !== superblock.heldRoot)) {
      const message = `the pool holds ${superblock.heldRoot === 0 ? "no metadata snapshot" : `its metadata snapshot at block ${superblock.heldRoot}`}: reserve one with the message reserve_metadata_snap`;
      throw new VdoError("VDO_THIN_MISMATCH", message, {
        field: "metadata snapshot",
        expected: superblock.heldRoot,
        actual: wanted,
      });
    }
    if (held >= blocks.blockCount) throw damage("superblock", `metadata snapshot at block ${held} is out of bounds`);
    return new PoolReader(blocks, superblock, decodeSuperblock(await blocks.read(held), held));
  }

  /** A reader of trees whose roots are known, on a device whose superblock is not. */
  static over(blocks: MetadataReader): PoolReader {
    const none = thinSuperblock.decode(new Uint8Array(thinSuperblock.size));
    return new PoolReader(blocks, none, none);
  }

  /** Roots of the devices' mappings, ascending by id. `lost` hears of damage; without it damage throws. */
  async roots(lost?: (range: LostRange) => void): Promise<Map<number, number>> {
    const roots = new Map<number, number>();
    const place = { root: this.view.mappingRoot, valueSize: 8, name: "mapping tree" };
    await walkTree(this.blocks, place, {
      leaf(node) {
        for (let i = 0; i < node.count; i++) roots.set(keyOf(node, i), childOf(node, i));
      },
      ...(lost === undefined ? {} : { lost }),
    });
    return roots;
  }

  /** Details of the devices, ascending by id. `lost` hears of damage; without it damage throws. */
  async details(lost?: (range: LostRange) => void): Promise<Map<number, DeviceDetails>> {
    const details = new Map<number, DeviceDetails>();
    const place = { root: this.view.detailsRoot, valueSize: deviceDetails.size, name: "device details tree" };
    await walkTree(this.blocks, place, {
      leaf(node) {
        for (let i = 0; i < node.count; i++)
          details.set(keyOf(node, i), deviceDetails.get(node.view, valueAt(node, i)));
      },
      ...(lost === undefined ? {} : { lost }),
    });
    return details;
  }

  /** The devices, ascending by id. Throws `VDO_CORRUPT` when a device is in one of the two trees only. */
  async devices(): Promise<DeviceRecord[]> {
    const roots = await this.roots();
    const details = await this.details();
    const records: DeviceRecord[] = [];
    for (const [id, value] of details) {
      const root = roots.get(id);
      if (root === undefined) throw damage("mapping tree", `device ${id} has details and no mappings`);
      records.push({ id, root, details: value });
    }
    for (const id of roots.keys()) {
      if (!details.has(id)) throw damage("device details tree", `device ${id} has mappings and no details`);
    }
    return records;
  }

  /** The device `id`. Throws `VDO_THIN_NOT_FOUND`. */
  async device(id: number): Promise<DeviceRecord> {
    const found = (await this.devices()).find((record) => record.id === id);
    if (found !== undefined) return found;
    throw new VdoError("VDO_THIN_NOT_FOUND", `there is no thin device ${id}: vdo thin ls lists them`, { device: id });
  }

  /** Calls `visit` for each mapping of the device. */
  async mappings(
    { id, root }: Pick<DeviceRecord, "id" | "root">,
    visit: MappingVisitor,
    lost?: (range: LostRange) => void,
  ): Promise<void> {
    await walkTree(
      this.blocks,
      { root, valueSize: 8, name: `mappings of device ${id}` },
      {
        leaf(node) {
          for (let i = 0; i < node.count; i++) {
            const at = valueAt(node, i);
            visit(keyOf(node, i), mappingBlock(node.view, at), mappingTime(node.view, at));
          }
        },
        ...(lost === undefined ? {} : { lost }),
      },
    );
  }
}
