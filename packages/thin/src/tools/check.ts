/**
 * Checks the metadata of a pool: every tree readable and in order, every count what the trees say.
 *
 *     superblock ─┬─ mapping tree ── devices ── data blocks counted ─┐
 *                 ├─ details tree ── number of mappings per device   ├─ compared with both space maps
 *                 └─ metadata snapshot: the same ── nodes counted ───┘
 *
 * It judges what thin_check 0.9 and 1.x judge, and besides what neither does: magic, versions, flags, data blocks in range,
 * numbers of allocated blocks (as warnings where the kernel goes on with them).
 */
import { isVdoError } from "@vdo/base";
import type { BlockDevice } from "@vdo/block-device";
import { METADATA_BLOCKS_MAX } from "../constants.ts";
import { type DeviceDetails, deviceDetails } from "../format/device-details.ts";
import { mappingBlock, mappingTime } from "../format/mapping.ts";
import {
  isSuperblockIntact,
  SUPERBLOCK_MAGIC,
  SUPERBLOCK_VERSION,
  type ThinSuperblock,
  thinSuperblock,
} from "../format/superblock.ts";
import { ENTRIES_PER_BITMAP } from "./bitmap.ts";
import { type CountSource, compareCounts, type Leak } from "./check-counts.ts";
import { CheckLog, type CheckProblem, type Severity } from "./check-log.ts";
import { TreeChecker, type TreeKind } from "./check-tree.ts";
import { MetadataReader } from "./metadata-reader.ts";
import { childOf, keyOf, type Node, valueAt } from "./node.ts";
import { PagedCounts } from "./paged-counts.ts";
import { INDEX_ENTRY_BYTES, metadataBitmaps } from "./space-map-reader.ts";
import { type TreePlace, walkTree } from "./tree-walk.ts";

export interface CheckOptions {
  /** Only the superblock. */
  superblockOnly?: boolean;
  /** The top levels only: no device's mappings, no counts. */
  skipMappings?: boolean;
  /** Only the metadata snapshot; the pool may be in use. */
  metadataSnapshot?: boolean;
  /** Read these roots instead of the superblock's; counts are not compared then. */
  overrideMappingRoot?: number;
  overrideDetailsRoot?: number;
  /** Told of each step, in the words of thin_check 0.9. */
  onStep?(text: string): void;
}

export interface CheckReport {
  problems: CheckProblem[];
  counts: Readonly<Record<Severity, number>>;
  /** Undefined when the superblock cannot be read. */
  superblock: ThinSuperblock | undefined;
  /** Metadata blocks that are free. */
  freeBlocks: number;
  leaks: Leak[];
}

/** Checks; damage is in the report, not thrown. Throws what the device throws at the superblock. */
export async function check(metadata: BlockDevice, options: CheckOptions = {}): Promise<CheckReport> {
  const log = new CheckLog();
  const reader = new MetadataReader(metadata);
  const report: CheckReport = {
    problems: log.problems,
    counts: log.counts,
    superblock: undefined,
    freeBlocks: 0,
    leaks: [],
  };
  options.onStep?.("examining superblock");
  const superblock = await readSuperblock(reader, log, 0);
  if (superblock === undefined) return report;
  report.superblock = superblock;
  report.freeBlocks = superblock.metadataSpaceMap.blockCount - superblock.metadataSpaceMap.allocatedCount;
  if (options.superblockOnly === true) return report;
  const blocks = superblock.metadataSpaceMap.blockCount;
  if (blocks > METADATA_BLOCKS_MAX) {
    log.fatal("metadata space map", `${blocks} blocks are more than it can count`);
    return report;
  }
  const run = new Check(reader, log, superblock, options);
  options.onStep?.("examining devices tree");
  options.onStep?.(options.skipMappings === true ? "examining top level of mapping tree" : "examining mapping tree");
  await run.trees();
  const comparesCounts =
    options.skipMappings !== true &&
    options.metadataSnapshot !== true &&
    options.overrideMappingRoot === undefined &&
    options.overrideDetailsRoot === undefined;
  if (!comparesCounts) return report;
  options.onStep?.("checking space map counts");
  report.leaks = await run.spaceMaps();
  return report;
}

async function readSuperblock(reader: MetadataReader, log: CheckLog, at: number): Promise<ThinSuperblock | undefined> {
  const name = at === 0 ? "superblock" : "metadata snapshot's superblock";
  if (at >= reader.blockCount) {
    log.fatal(name, `block out of bounds (${at} >= ${reader.blockCount})`);
    return undefined;
  }
  const block = await reader.read(at);
  if (!isSuperblockIntact(block)) {
    log.fatal(name, `bad checksum in superblock (block ${at})`);
    return undefined;
  }
  const superblock = thinSuperblock.decode(block);
  const { magic, version, blockNumber, compatReadOnlyFlags, incompatFlags } = superblock;
  if (magic !== SUPERBLOCK_MAGIC) log.warning(name, `magic ${magic}, the kernel wants ${SUPERBLOCK_MAGIC}`);
  if (version !== SUPERBLOCK_VERSION) log.warning(name, `version ${version}, usual is ${SUPERBLOCK_VERSION}`);
  if (blockNumber !== at) log.warning(name, `its address is ${at}, it says ${blockNumber}: the kernel refuses it`);
  if (incompatFlags !== 0) log.warning(name, `unknown features ${incompatFlags}: the kernel refuses it`);
  if (compatReadOnlyFlags !== 0) log.warning(name, `unknown features ${compatReadOnlyFlags}: read-only for the kernel`);
  return superblock;
}

/** One run of the checker. */
class Check {
  readonly #reader: MetadataReader;
  readonly #log: CheckLog;
  readonly #superblock: ThinSuperblock;
  readonly #options: CheckOptions;
  readonly #trees: TreeChecker;
  readonly #dataCounts = new PagedCounts();
  #faults = 0;

  constructor(reader: MetadataReader, log: CheckLog, superblock: ThinSuperblock, options: CheckOptions) {
    this.#reader = reader;
    this.#log = log;
    this.#superblock = superblock;
    this.#options = options;
    this.#trees = new TreeChecker(reader, log, superblock.metadataSpaceMap.blockCount);
  }

  /** Devices and mappings, of the pool and of its metadata snapshot. */
  async trees(): Promise<void> {
    const { heldRoot, mappingRoot, detailsRoot } = this.#superblock;
    const { metadataSnapshot = false, overrideMappingRoot, overrideDetailsRoot } = this.#options;
    if (!metadataSnapshot) {
      this.#trees.point(0, "superblock");
      await this.#devices(overrideMappingRoot ?? mappingRoot, overrideDetailsRoot ?? detailsRoot, "");
    } else if (heldRoot === 0) {
      this.#log.fatal("superblock", "there is no metadata snapshot");
    }
    if (heldRoot === 0) return;
    if (!this.#trees.point(heldRoot, "superblock, metadata snapshot")) return;
    const held = await readSuperblock(this.#reader, this.#log, heldRoot);
    if (held !== undefined) await this.#devices(held.mappingRoot, held.detailsRoot, "metadata snapshot: ");
    else this.#faults++;
  }

  async #devices(mappingRoot: number, detailsRoot: number, prefix: string): Promise<void> {
    const pending: [number, number][] = [];
    const top = await this.#trees.tree(mappingRoot, {
      kind: "devices",
      name: `${prefix}mapping tree`,
      valueSize: 8,
      leaf: (node) => {
        for (let i = 0; i < node.count; i++) pending.push([keyOf(node, i), childOf(node, i)]);
      },
    });
    const seen = await this.#trees.tree(detailsRoot, {
      kind: "details",
      name: `${prefix}device details tree`,
      valueSize: deviceDetails.size,
      leaf: () => {},
    });
    this.#faults += top.faults + seen.faults;
    if (top.faults > 0) this.#log.fatal(`${prefix}mapping tree`, "missing all mappings of some devices");
    if (seen.faults > 0) this.#log.fatal(`${prefix}device details tree`, "missing devices");
    if (this.#options.skipMappings === true) return;
    for (const [id, root] of pending) {
      const mappings = await this.#trees.tree(root, this.#mappings(`${prefix}mappings of device ${id}`));
      this.#faults += mappings.faults;
    }
    if (top.faults + seen.faults === 0) await this.#compareDevices({ mappingRoot, detailsRoot, prefix });
  }

  #mappings(name: string): TreeKind {
    const dataBlocks = this.#superblock.dataSpaceMap.blockCount;
    return {
      kind: "mappings",
      name,
      valueSize: 8,
      leaf: (node) => {
        for (let i = 0; i < node.count; i++) {
          const at = valueAt(node, i);
          const block = mappingBlock(node.view, at);
          if (block < dataBlocks) this.#dataCounts.add(block);
          else {
            this.#log.fatal(name, `block ${keyOf(node, i)} is mapped to data block ${block}, there are ${dataBlocks}`);
          }
          if (mappingTime(node.view, at) > this.#superblock.time) {
            this.#log.warning(
              name,
              `block ${keyOf(node, i)} was mapped in the future (time ${mappingTime(node.view, at)})`,
            );
          }
        }
      },
    };
  }

  /** The same devices in both trees, with the number of mappings that the details say. */
  async #compareDevices(roots: { mappingRoot: number; detailsRoot: number; prefix: string }): Promise<void> {
    const { mappingRoot, detailsRoot, prefix } = roots;
    const mappings = new Map<number, number>();
    const mappingPlace = { root: mappingRoot, valueSize: 8, name: "mapping tree" };
    await this.#collect(mappingPlace, (node, i) => mappings.set(keyOf(node, i), childOf(node, i)));
    const details = new Map<number, DeviceDetails>();
    const detailsPlace = { root: detailsRoot, valueSize: deviceDetails.size, name: "device details tree" };
    await this.#collect(detailsPlace, (node, i) => {
      details.set(keyOf(node, i), deviceDetails.get(node.view, valueAt(node, i)));
    });
    for (const [id, root] of mappings) {
      const expected = details.get(id)?.mappedBlocks;
      if (expected === undefined) {
        this.#log.fatal(`${prefix}device details tree`, `device ${id} has mappings and no details`);
        continue;
      }
      const { entries, faults } = this.#trees.known(root, "mappings");
      if (faults > 0) {
        const text = `${faults} nodes cannot be read: ${expected - entries} of ${expected} mappings are missing`;
        this.#log.fatal(`${prefix}mappings of device ${id}`, text);
      } else if (entries !== expected) {
        const text = `unexpected number of mappings, expected ${expected}, actual ${entries}`;
        this.#log.fatal(`${prefix}mappings of device ${id}`, text);
      }
    }
    for (const id of details.keys()) {
      if (!mappings.has(id)) this.#log.fatal(`${prefix}mapping tree`, `device ${id} has details and no mappings`);
    }
  }

  /** Reads a tree again, uncounted: shared leaves were shown once only. */
  async #collect(place: TreePlace, entry: (node: Node, index: number) => void): Promise<void> {
    const leaf = (node: Node): void => {
      for (let i = 0; i < node.count; i++) entry(node, i);
    };
    await walkTree(this.#reader, place, { leaf, lost: () => {} });
  }

  /** Both space maps: their structures, then their counts. */
  async spaceMaps(): Promise<Leak[]> {
    const data = await this.#dataMap();
    const metadata = await this.#metadataMap();
    if (this.#faults > 0) {
      this.#log.warning("space maps", "counts were not compared, because trees cannot be read whole");
      return [];
    }
    const leaks: Leak[] = [];
    if (data !== undefined) {
      leaks.push(...(await compareCounts(this.#reader, this.#log, data, (block) => this.#dataCounts.get(block))));
    }
    const counts = this.#trees.counts;
    if (metadata !== undefined && data !== undefined) {
      leaks.push(...(await compareCounts(this.#reader, this.#log, metadata, (block) => counts[block] as number)));
    }
    return leaks;
  }

  async #overflow(root: number, name: string): Promise<Map<number, number> | undefined> {
    const overflow = new Map<number, number>();
    const { faults } = await this.#trees.tree(root, {
      kind: name,
      name: `${name}'s overflow tree`,
      valueSize: 4,
      leaf: (node) => {
        for (let i = 0; i < node.count; i++) overflow.set(keyOf(node, i), node.view.getUint32(valueAt(node, i), true));
      },
    });
    return faults === 0 ? overflow : undefined;
  }

  async #dataMap(): Promise<CountSource | undefined> {
    const root = this.#superblock.dataSpaceMap;
    const bitmaps: number[] = [];
    const name = "data space map";
    const index = await this.#trees.tree(root.bitmapRoot, {
      kind: "index",
      name: `${name}'s index`,
      valueSize: INDEX_ENTRY_BYTES,
      leaf: (node) => {
        for (let i = 0; i < node.count; i++) {
          if (keyOf(node, i) !== bitmaps.length) {
            this.#log.fatal(`${name}'s index`, `entry ${keyOf(node, i)} stands where ${bitmaps.length} belongs`);
          }
          bitmaps.push(childOf(node, i));
        }
      },
    });
    const overflow = await this.#overflow(root.overflowRoot, name);
    for (const [i, bitmap] of bitmaps.entries()) this.#trees.point(bitmap, `${name}, bitmap ${i}`);
    if (index.faults > 0 || overflow === undefined) return undefined;
    const wanted = Math.ceil(root.blockCount / ENTRIES_PER_BITMAP);
    if (bitmaps.length !== wanted) {
      this.#log.fatal(name, `${bitmaps.length} bitmaps, ${wanted} are needed for ${root.blockCount} blocks`);
      return undefined;
    }
    return { kind: "data", root, bitmaps, overflow };
  }

  async #metadataMap(): Promise<CountSource | undefined> {
    const root = this.#superblock.metadataSpaceMap;
    const name = "metadata space map";
    const overflow = await this.#overflow(root.overflowRoot, name);
    if (!this.#trees.point(root.bitmapRoot, `${name}'s index`)) return undefined;
    let bitmaps: number[];
    try {
      bitmaps = await metadataBitmaps(this.#reader, root);
    } catch (error) {
      if (!isVdoError(error, "VDO_CORRUPT")) throw error;
      this.#log.fatal(`${name}'s index`, String(error.data.actual));
      return undefined;
    }
    for (const [i, bitmap] of bitmaps.entries()) this.#trees.point(bitmap, `${name}, bitmap ${i}`);
    return overflow === undefined ? undefined : { kind: "metadata", root, bitmaps, overflow };
  }
}

/** True when the check allows use: nothing fatal, and nothing non-fatal unless that is to be ignored. */
export function isHealthy(report: CheckReport, ignoreNonFatal = false): boolean {
  return report.counts.fatal === 0 && (ignoreNonFatal || report.counts["non-fatal"] === 0);
}
