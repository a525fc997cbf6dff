/** The golden stack: made by Debian's ploop 1.15 and qemu-io 7.2 (64 MiB, 1 MiB clusters, version 1, two snapshots). */
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";

/** Its content: from and to in MiB, and the byte that fills the range. The rest is zero. */
export const GOLDEN_PATTERNS = [
  [0, 1, 21],
  [1, 2, 19],
  [2, 3, 17],
  [10, 11, 18],
  [11, 12, 22],
  [20, 21, 20],
] as const;

const BLOCK = 512;

/** Unpacks the stack into a new folder; `remove` deletes it. */
export async function unpackGolden(): Promise<{ folder: string; remove: () => Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), "ploop-golden-"));
  await mkdir(folder, { recursive: true });
  const tar = gunzipSync(await readFile(new URL("../golden/ploop-stack.tar.gz", import.meta.url)));
  for (let at = 0; at + BLOCK <= tar.length; ) {
    const name = tar.toString("utf8", at, tar.indexOf(0, at));
    if (name === "") break;
    const size = Number.parseInt(tar.toString("ascii", at + 124, at + 135), 8);
    if (size > 0) await writeFile(join(folder, name), tar.subarray(at + BLOCK, at + BLOCK + size));
    at += BLOCK + Math.ceil(size / BLOCK) * BLOCK;
  }
  return { folder, remove: () => rm(folder, { recursive: true, force: true }) };
}

/** What a disk of 64 MiB with the golden content holds. */
export function goldenContent(): Uint8Array {
  const content = new Uint8Array(64 << 20);
  for (const [from, to, value] of GOLDEN_PATTERNS) content.fill(value, from << 20, to << 20);
  return content;
}
