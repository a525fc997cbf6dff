/**
 * The data disk of the kernel's image, block by block (4096 bytes each): block i mod 8 is 0, 1 unique, 2 a copy of i - 2,
 * 3 zero, 4, 5 compressible, 6 a copy of an old unique one, 7 mildly compressible.
 */
import { createHash } from "node:crypto";

const SEED = "fixture-1";

function stream(tag: number, length: number): Buffer {
  const parts: Buffer[] = [];
  for (let k = 0; k * 32 < length; k++) parts.push(createHash("sha256").update(`${SEED}/${tag}/${k}`).digest());
  return Buffer.concat(parts).subarray(0, length);
}

export function fixtureBlock(i: number): Uint8Array {
  const kind = i % 8;
  if (kind < 2) return stream(i, 4096);
  if (kind === 2) return fixtureBlock(i - 2);
  if (kind === 3) return new Uint8Array(4096);
  if (kind === 6) return fixtureBlock(Math.floor(Math.floor(i / 3) / 8) * 8);
  const block = Buffer.alloc(4096);
  if (kind === 7) {
    block.fill((i % 251) + 1);
    stream(i, 2400).copy(block);
    return block;
  }
  block.fill(`line ${i} of ${SEED}; `, 64);
  stream(i, 64).copy(block);
  return block;
}
