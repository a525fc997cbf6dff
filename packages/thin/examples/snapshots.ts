import { MemoryDevice } from "@vdo/block-device";
import { ThinPool } from "@vdo/thin";

// Any block devices will do: files, NBD exports, VDO volumes. A blank metadata device becomes a new pool.
const metadata = new MemoryDevice({ blockCount: 1024 });
const data = new MemoryDevice({ blockCount: 65_536 });
const pool = await ThinPool.open({ metadata, data, blockSectors: 128 });

await pool.createThin(0);
const disk = await pool.volume({ id: 0, sectors: 2 ** 31 }); // 1 TiB, of which nothing is taken yet
await disk.write(0, new Uint8Array(1 << 20).fill(1));

await pool.createSnapshot(1, 0); // at once, whatever the size
await disk.write(0, new Uint8Array(65_536).fill(2));

const before = await pool.volume({ id: 1, sectors: 2 ** 31 });
const [now, then] = [new Uint8Array(4096), new Uint8Array(4096)];
await disk.read(0, now);
await before.read(0, then);
console.log(`the disk holds ${now[0]}, the snapshot ${then[0]}`);
console.log(await pool.status());
// the disk holds 2, the snapshot 1
// 0 113/1024 17/4096 - rw discard_passdown queue_if_no_space - 256

await pool.close();
