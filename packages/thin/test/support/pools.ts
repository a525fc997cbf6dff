/** Small pools in memory. */
import { type BlockDevice, MemoryDevice } from "@vdo/block-device";
import { check, type PoolEvent, ThinPool, type ThinPoolOptions } from "../../src/index.ts";

export interface SmallPool {
  pool: ThinPool;
  metadata: MemoryDevice;
  data: MemoryDevice;
  events: PoolEvent[];
}

/** A pool of `dataBlocks` blocks of 64 KiB. */
export async function smallPool(options: Partial<ThinPoolOptions> & { dataBlocks?: number } = {}): Promise<SmallPool> {
  const { dataBlocks = 256, ...rest } = options;
  const metadata = new MemoryDevice({ blockCount: 1024 });
  const data = new MemoryDevice({ blockCount: dataBlocks * 16 });
  const events: PoolEvent[] = [];
  const onEvent = (event: PoolEvent): void => void events.push(event);
  const pool = await ThinPool.open({ metadata, data, blockSectors: 128, onEvent, ...rest });
  return { pool, metadata, data, events };
}

/** Texts of what a check finds. */
export async function problemsOf(metadata: BlockDevice): Promise<string[]> {
  const { problems } = await check(metadata);
  return problems.map(({ severity, structure, text }) => `${severity}: ${structure}: ${text}`);
}
