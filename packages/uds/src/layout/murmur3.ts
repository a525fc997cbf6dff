/**
 * MurmurHash3 x64 128-bit, for the nonces of the index layout (a handful of hashes of 32 bytes per opening).
 * Not for record names: BigInt arithmetic is thousands of times too slow for those.
 */
const MASK = (1n << 64n) - 1n;
const C1 = 0x87c37b91114253d5n;
const C2 = 0x4cf5ad432745937fn;

function rotate(x: bigint, bits: bigint): bigint {
  return ((x << bits) | (x >> (64n - bits))) & MASK;
}

function mix1(k: bigint): bigint {
  return (rotate((k * C1) & MASK, 31n) * C2) & MASK;
}

function mix2(k: bigint): bigint {
  return (rotate((k * C2) & MASK, 33n) * C1) & MASK;
}

function finish(k: bigint): bigint {
  let x = k;
  x = ((x ^ (x >> 33n)) * 0xff51afd7ed558ccdn) & MASK;
  x = ((x ^ (x >> 33n)) * 0xc4ceb9fe1a85ec53n) & MASK;
  return x ^ (x >> 33n);
}

/** The 16-byte digest (h1 then h2, little endian) of `data`; `seed` is 32 bits. */
export function murmur3(data: Uint8Array, seed: number): Uint8Array {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  let h1 = BigInt(seed >>> 0);
  let h2 = h1;
  const whole = data.length - (data.length % 16);
  for (let at = 0; at < whole; at += 16) {
    h1 ^= mix1(view.getBigUint64(at, true));
    h1 = (rotate(h1, 27n) + h2) & MASK;
    h1 = (h1 * 5n + 0x52dce729n) & MASK;
    h2 ^= mix2(view.getBigUint64(at + 8, true));
    h2 = (rotate(h2, 31n) + h1) & MASK;
    h2 = (h2 * 5n + 0x38495ab5n) & MASK;
  }
  const tail = new DataView(new ArrayBuffer(16));
  for (let i = whole; i < data.length; i++) tail.setUint8(i - whole, data[i] as number);
  if (data.length - whole > 8) h2 ^= mix2(tail.getBigUint64(8, true));
  if (data.length > whole) h1 ^= mix1(tail.getBigUint64(0, true));
  h1 ^= BigInt(data.length);
  h2 ^= BigInt(data.length);
  h1 = (h1 + h2) & MASK;
  h2 = (h2 + h1) & MASK;
  h1 = finish(h1);
  h2 = finish(h2);
  h1 = (h1 + h2) & MASK;
  h2 = (h2 + h1) & MASK;
  const digest = new Uint8Array(16);
  const out = new DataView(digest.buffer);
  out.setBigUint64(0, h1, true);
  out.setBigUint64(8, h2, true);
  return digest;
}
