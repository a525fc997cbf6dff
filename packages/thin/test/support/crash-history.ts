/**
 * One history of a pool on two disks that lose power at the same instant, and what must hold afterwards: the metadata is
 * consistent to the last count, and each sector holds what was there at the last flush or was written since.
 */
import { type Clock, invariant, Random } from "@vdo/base";
import { SimulatedDisk } from "@vdo/block-device/testing";
import { check, ThinPool, type ThinVolume } from "../../src/index.ts";

/** Blocks of 4096 bytes of a thin device: six data blocks. */
const BLOCKS = 96;
const SECTORS_PER_BLOCK = 8;
const noTimers: Clock = { now: () => 0, wallMicroseconds: () => 0, after: () => () => {} };

/** What a device may hold, block by block: tags of 4096-byte blocks, 0 is zeros. */
interface DeviceModel {
  /** Now. */
  present: Uint8Array;
  /** All that a crash may leave. */
  allowed: Set<number>[];
}

function newModel(present: Uint8Array = new Uint8Array(BLOCKS)): DeviceModel {
  return { present: present.slice(), allowed: Array.from(present, (tag) => new Set([tag])) };
}

class History {
  readonly random: Random;
  readonly models = new Map<number, DeviceModel>();
  readonly volumes = new Map<number, ThinVolume>();
  /** A device that a crash may have made or unmade, with its content if it is there. */
  uncertain: { id: number; content: Uint8Array | undefined } | undefined;
  readonly #pool: ThinPool;
  #nextId = 1;
  #tag = 0;

  constructor(pool: ThinPool, random: Random) {
    this.#pool = pool;
    this.random = random;
  }

  async open(id: number): Promise<void> {
    this.volumes.set(id, await this.#pool.volume({ id, sectors: BLOCKS * 8 }));
  }

  /** Everything acknowledged is durable now. */
  #settle(): void {
    for (const model of this.models.values()) Object.assign(model, newModel(model.present));
  }

  async step(): Promise<void> {
    const dice = this.random.below(20);
    const id = this.random.pick([...this.models.keys()]);
    if (dice < 11) await Promise.all([this.#write(id, 0), this.#write(id, BLOCKS / 2)]);
    else if (dice < 13) await this.#discard(id);
    else if (dice < 16) {
      await (this.volumes.get(id) as ThinVolume).flush();
      this.#settle();
    } else if (dice < 18 && this.models.size < 5) await this.#snapshot(id);
    else if (dice < 19 && this.models.size > 1) await this.#delete(id);
    else await this.#metadataSnapshot();
  }

  async #write(id: number, from: number): Promise<void> {
    const start = from + this.random.below(BLOCKS / 2 - 17);
    const count = 1 + this.random.below(17);
    this.#tag = (this.#tag % 250) + 1;
    const tag = this.#tag;
    const model = this.models.get(id) as DeviceModel;
    for (let block = start; block < start + count; block++) (model.allowed[block] as Set<number>).add(tag);
    await (this.volumes.get(id) as ThinVolume).write(start, new Uint8Array(count * 4096).fill(tag));
    model.present.fill(tag, start, start + count);
  }

  async #discard(id: number): Promise<void> {
    const first = this.random.below(5);
    const model = this.models.get(id) as DeviceModel;
    for (let block = first * 16; block < first * 16 + 32; block++) (model.allowed[block] as Set<number>).add(0);
    await (this.volumes.get(id) as ThinVolume).discard?.(first * 16, 32);
    model.present.fill(0, first * 16, first * 16 + 32);
  }

  async #snapshot(origin: number): Promise<void> {
    const id = this.#nextId++;
    const { present } = this.models.get(origin) as DeviceModel;
    this.uncertain = { id, content: present.slice() };
    await this.#pool.createSnapshot(id, origin);
    this.uncertain = undefined;
    this.models.set(id, newModel(present));
    this.#settle();
    await this.open(id);
  }

  async #delete(id: number): Promise<void> {
    await (this.volumes.get(id) as ThinVolume).close();
    this.uncertain = { id, content: undefined };
    this.models.delete(id);
    this.volumes.delete(id);
    await this.#pool.delete(id);
    this.uncertain = undefined;
    this.#settle();
  }

  async #metadataSnapshot(): Promise<void> {
    const { heldRoot } = await this.#pool.figures();
    if (heldRoot === 0) await this.#pool.reserveMetadataSnapshot();
    else await this.#pool.releaseMetadataSnapshot();
    this.#settle();
  }

  /** Throws unless the pool after the crash holds what it may. */
  async verify(pool: ThinPool): Promise<void> {
    const ids = new Set((await pool.devices()).map(({ id }) => id));
    for (const [id, { allowed }] of this.models) {
      invariant(ids.delete(id), "a device that was there at the last commit is there after a crash");
      await verifyContent(pool, id, allowed);
    }
    const { id, content } = this.uncertain ?? { id: -1, content: undefined };
    if (ids.delete(id) && content !== undefined) await verifyContent(pool, id, newModel(content).allowed);
    invariant(ids.size === 0, "no other devices are there after a crash");
  }
}

async function verifyContent(pool: ThinPool, id: number, allowed: readonly Set<number>[]): Promise<void> {
  const volume = await pool.volume({ id, sectors: BLOCKS * 8 });
  const content = new Uint8Array(BLOCKS * 4096);
  await volume.read(0, content);
  for (let sector = 0; sector < BLOCKS * SECTORS_PER_BLOCK; sector++) {
    const tag = content[sector * 512] as number;
    if (!(allowed[Math.floor(sector / SECTORS_PER_BLOCK)] as Set<number>).has(tag)) {
      throw new Error(`device ${id}, sector ${sector}: ${tag} was never written there since the last flush`);
    }
    const end = content.subarray(sector * 512, sector * 512 + 512);
    if (end.some((byte) => byte !== tag)) throw new Error(`device ${id}, sector ${sector} is torn`);
  }
  await volume.close();
}

/** Runs the history of `seed` to its power cut and judges what is left. Returns the number of steps done before the cut. */
export async function runCrashHistory(seed: number): Promise<number> {
  const random = new Random(seed);
  const metadata = new SimulatedDisk({ blockCount: 400, seed, discard: false });
  const data = new SimulatedDisk({ blockCount: 1024, seed: seed + 1 });
  const options = { blockSectors: 128, clock: noTimers };
  const pool = await ThinPool.open({ metadata, data, ...options });
  await pool.createThin(0);
  const history = new History(pool, random);
  history.models.set(0, newModel());
  await history.open(0);
  const [first, second] = random.chance(0.5) ? [metadata, data] : [data, metadata];
  void first.cutAfter(first.completed + 1 + random.below(50)).then(() => second.cut());
  let steps = 0;
  try {
    for (; steps < 30; steps++) await history.step();
  } catch (error) {
    if (!first.isCut) throw error;
  }
  const left = metadata.crash(seed + 2);
  const leftData = data.crash(seed + 3);
  const { problems } = await check(left);
  if (problems.length > 0) throw new Error(`after the crash: ${JSON.stringify(problems.slice(0, 3))}`);
  const again = await ThinPool.open({ metadata: left, data: leftData, ...options });
  await history.verify(again);
  await again.close();
  return steps;
}
