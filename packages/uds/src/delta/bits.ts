/**
 * Bit fields of a little-endian bit stream: bit i is bit (i mod 8) of byte ⌊i / 8⌋.
 *
 * Every function takes a view, the byte at which the stream starts, and bit positions in the stream. They load and store
 * whole 32-bit words, so a stream is followed by at least 4 (8 for moves) readable bytes. Fields have at most 25 bits.
 */

/** Reads `count` (0 to 25) bits. */
export function getBits(view: DataView, base: number, bit: number, count: number): number {
  return (view.getUint32(base + (bit >>> 3), true) >>> (bit & 7)) & ((1 << count) - 1);
}

/** Writes the low `count` (0 to 25) bits of `value`; bits around them keep their values. */
export function setBits(view: DataView, base: number, bit: number, count: number, value: number): void {
  const at = base + (bit >>> 3);
  const shift = bit & 7;
  const mask = ((1 << count) - 1) << shift;
  view.setUint32(at, (view.getUint32(at, true) & ~mask) | ((value << shift) & mask), true);
}

/** Moves `count` bits from `from` to a lower position `to`. The ranges may overlap. */
export function moveBitsDown(view: DataView, base: number, from: number, to: number, count: number): void {
  let source = from;
  let target = to;
  let left = count;
  const head = Math.min(left, -target & 7);
  if (head > 0) {
    setBits(view, base, target, head, getBits(view, base, source, head));
    source += head;
    target += head;
    left -= head;
  }
  const shift = source & 7;
  let sourceByte = base + (source >>> 3);
  let targetByte = base + (target >>> 3);
  for (; left >= 32; left -= 32) {
    let word = view.getUint32(sourceByte, true) >>> shift;
    if (shift !== 0) word |= view.getUint8(sourceByte + 4) << (32 - shift);
    view.setUint32(targetByte, word, true);
    sourceByte += 4;
    targetByte += 4;
  }
  source = from + (count - left);
  target = to + (count - left);
  while (left > 0) {
    const part = Math.min(left, 24);
    setBits(view, base, target, part, getBits(view, base, source, part));
    source += part;
    target += part;
    left -= part;
  }
}

/** Moves `count` bits from `from` to a higher position `to`. The ranges may overlap. */
export function moveBitsUp(view: DataView, base: number, from: number, to: number, count: number): void {
  let left = count;
  const tail = Math.min(left, (to + left) & 7);
  if (tail > 0) {
    left -= tail;
    setBits(view, base, to + left, tail, getBits(view, base, from + left, tail));
  }
  const shift = (from + left) & 7;
  let sourceByte = base + ((from + left) >>> 3);
  let targetByte = base + ((to + left) >>> 3);
  for (; left >= 32; left -= 32) {
    sourceByte -= 4;
    targetByte -= 4;
    let word = view.getUint32(sourceByte, true) >>> shift;
    if (shift !== 0) word |= view.getUint8(sourceByte + 4) << (32 - shift);
    view.setUint32(targetByte, word, true);
  }
  while (left > 0) {
    const part = Math.min(left, 24);
    left -= part;
    setBits(view, base, to + left, part, getBits(view, base, from + left, part));
  }
}

/** Writes the 16 bytes of a name. */
export function setName(view: DataView, base: number, bit: number, name: Uint8Array): void {
  for (let i = 0; i < 16; i++) setBits(view, base, bit + i * 8, 8, name[i] as number);
}

/** True when the 16 bytes at `bit` are those of `name`. */
export function nameEquals(view: DataView, base: number, bit: number, name: Uint8Array): boolean {
  for (let i = 0; i < 16; i++) if (getBits(view, base, bit + i * 8, 8) !== name[i]) return false;
  return true;
}
