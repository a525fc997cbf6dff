/** Heads and cylinders of a header. They address nothing, but images are the same byte for byte. */

const SECTORS_PER_TRACK = [63, 32, 16, 8];
const HEADS = [16, 8, 4, 2];
/** Between these sizes, in sectors, the classic 16 heads of 63 sectors are taken whatever remains. */
const CLASSIC_ABOVE = 1_032_192;
const CLASSIC_BELOW = 16_777_216;

/** Geometry of a disk of `sectors`, already rounded up to whole clusters. */
export function geometryOf(sectors: number): { heads: number; cylinders: number } {
  if (sectors > CLASSIC_ABOVE && sectors < CLASSIC_BELOW) {
    return { heads: 16, cylinders: Math.floor(sectors / 1008) };
  }
  const linear = { heads: 1, cylinders: sectors % 0x1_0000_0000 };
  const track = SECTORS_PER_TRACK.find((count) => sectors % count === 0);
  if (track === undefined) return linear;
  const tracks = sectors / track;
  const heads = HEADS.find((count) => tracks % count === 0);
  return heads === undefined ? linear : { heads, cylinders: (tracks / heads) % 0x1_0000_0000 };
}
