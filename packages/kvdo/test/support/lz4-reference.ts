/** The LZ4 block format, read byte by byte in the plainest way: what the fast decoder is compared with. */

/** The decoded bytes, or undefined when `source` is not one LZ4 block of exactly `size` bytes. */
export function decodeLz4(source: Uint8Array, size: number): Uint8Array | undefined {
  const target: number[] = [];
  let at = 0;
  const extended = (nibble: number): number | undefined => {
    if (nibble < 15) return nibble;
    let length = nibble;
    for (;;) {
      const byte = source[at++];
      if (byte === undefined) return undefined;
      length += byte;
      if (byte !== 255) return length;
    }
  };
  for (;;) {
    const token = source[at++];
    if (token === undefined) return undefined;
    const literals = extended(token >> 4);
    if (literals === undefined || at + literals > source.length || target.length + literals > size) return undefined;
    for (let i = 0; i < literals; i++) target.push(source[at++]!);
    if (at === source.length) return target.length === size ? Uint8Array.from(target) : undefined;
    if (at + 2 > source.length) return undefined;
    const distance = source[at]! | (source[at + 1]! << 8);
    at += 2;
    if (distance === 0 || distance > target.length) return undefined;
    const rest = extended(token & 15);
    if (rest === undefined || target.length + rest + 4 > size) return undefined;
    for (let i = 0; i < rest + 4; i++) target.push(target[target.length - distance]!);
  }
}
