/** Growing a running stack. There is no shrinking of an expanded image: the format has no way to take entries back. */
import { refused } from "../../errors.ts";
import { batClusters, CLUSTERS_LIMIT, versionOf } from "../../format/header.ts";
import { indexOf, type MapPage, NO_PLACE, pageOf } from "../cluster-map.ts";
import type { PloopDevice } from "../ploop-device.ts";
import type { StackEngine } from "../stack-engine.ts";

/** Told where clusters lie now; their old places are kept until it resolves. */
export type OnMoved = (moves: ReadonlyMap<number, number>) => Promise<void>;

/**
 * Makes the top delta hold `sectors`; the device keeps its length until {@link PloopDevice.reloadLength}. The clusters in
 * which the longer BAT will lie are moved away first; the header is written last, so a crash leaves the old size. Equal size:
 * nothing is done. Throws `VDO_PLOOP_REFUSED` (EINVAL: smaller, not whole clusters, too large).
 */
export function resizeTop(device: PloopDevice, sectors: number, onMoved?: OnMoved): Promise<void> {
  const { engine } = device;
  return engine.frozenWhile(async () => {
    const { header } = engine.top;
    const bad = (why: string): Error => refused("resize", "EINVAL", why);
    if (!Number.isSafeInteger(sectors) || sectors <= 0) throw bad("a size is a number of sectors");
    if (sectors % header.clusterSectors !== 0) throw bad(`a size is a multiple of ${header.clusterSectors} sectors`);
    if (sectors === header.sizeSectors) return;
    if (sectors < header.sizeSectors) throw bad("online shrink is not supported; shrink the file system and discard");
    const clusterCount = sectors / header.clusterSectors;
    if (clusterCount >= CLUSTERS_LIMIT) throw bad("too many clusters");
    if (versionOf(header) === 1 && sectors > 0xffff_ffff) throw bad("version 1 holds less than 2 TiB");
    try {
      await grow(engine, clusterCount, onMoved);
      device.bitmaps.resize(sectors);
    } catch (error) {
      // What is on disk is a valid image of the old size, whichever step failed.
      await engine.stackChanged({ newTop: true });
      throw error;
    }
  });
}

async function grow(engine: StackEngine, clusterCount: number, onMoved?: OnMoved): Promise<void> {
  const { top, holes, clusterBytes } = engine;
  const { clusterSectors } = top.header;
  const first = top.batClusters;
  const end = batClusters(clusterCount, clusterSectors);
  holes.extend(end + clusterCount);
  for (let place = first; place < end; place++) holes.take(place);
  const moving = new Map<number, number>();
  await top.scan((cluster, place) => {
    holes.take(place);
    if (place < end) moving.set(cluster, place);
  });
  if (moving.size > 0) {
    const moves = await relocate(engine, moving);
    await onMoved?.(moves);
  }
  if (end > first) {
    await lengthen(engine, end);
    for (let place = first; place < end; place++) await engine.zeroTop(place * clusterBytes, clusterBytes);
    await top.file.flush();
  }
  await top.writeHeader({
    clusterCount,
    sizeSectors: clusterCount * clusterSectors,
    firstBlock: end * clusterSectors,
  });
  engine.tracker?.mark(0, clusterBytes);
  await top.file.flush();
}

/** Makes the file at least `places` clusters long, with zeros. */
async function lengthen(engine: StackEngine, places: number): Promise<void> {
  const { top, clusterBytes } = engine;
  const bytes = places * clusterBytes;
  if (bytes > top.file.length) await top.file.setLength(engine.extended(bytes));
  engine.zerosFrom = Math.max(engine.zerosFrom, bytes);
}

/** Copies clusters to new places, and points the index there; resolves with these. Writes are frozen. */
async function relocate(
  engine: StackEngine,
  moving: ReadonlyMap<number, number>,
): Promise<ReadonlyMap<number, number>> {
  const { top, clusterBytes } = engine;
  const entries = new Map<number, number>();
  const data = new Uint8Array(clusterBytes);
  for (const [cluster, from] of moving) {
    const place = engine.allocate();
    await lengthen(engine, place + 1);
    await top.file.read(from * clusterBytes, data);
    await engine.writeTop(place * clusterBytes, data);
    entries.set(cluster, place);
  }
  await top.file.flush();
  await publish(engine, entries);
  await engine.epochs.drain();
  return entries;
}

/** Writes index entries of the top, makes them durable and valid. Only for the worker's jobs. */
export async function publish(engine: StackEngine, entries: ReadonlyMap<number, number>): Promise<void> {
  const pages: MapPage[] = [];
  try {
    for (const number of new Set([...entries.keys()].map(pageOf))) {
      const page = await engine.map.pin(number);
      pages.push(page);
      await engine.writePage(page, entries);
    }
    await engine.top.file.flush();
    for (const [cluster, place] of entries) {
      const page = pages.find(({ number }) => number === pageOf(cluster)) as MapPage;
      page.places[indexOf(cluster)] = place;
      page.levels[indexOf(cluster)] = place === NO_PLACE ? 0 : engine.topLevel;
    }
  } finally {
    for (const page of pages) engine.map.unpin(page);
  }
}
