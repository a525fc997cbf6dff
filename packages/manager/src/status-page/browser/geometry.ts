/** Where the lines and labels of a chart go: numbers alone. */

export interface Point {
  /** Seconds since 1970. */
  at: number;
  /** Null where nothing was measured: the line has a gap. */
  value: number | null;
}

export interface Frame {
  width: number;
  height: number;
  left: number;
  right: number;
  top: number;
  bottom: number;
}

/** A round number at or above `value`: 1, 2 or 5 times a power of `base`. */
export function roundUp(value: number, base: 10 | 1024 = 10): number {
  if (value <= 0) return 1;
  let power = 1;
  while (power * base <= value) power *= base;
  while (power > value) power /= 10;
  const steps = base === 10 ? [1, 2, 5, 10] : [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];
  return power * (steps.find((step) => step * power >= value) ?? base);
}

/** Maps time and value into the frame. */
export class Scale {
  readonly frame: Frame;
  readonly begin: number;
  readonly end: number;
  readonly top: number;

  constructor(frame: Frame, { begin, end, top }: { begin: number; end: number; top: number }) {
    this.frame = frame;
    this.begin = begin;
    this.end = Math.max(end, begin + 1);
    this.top = top;
  }

  x(at: number): number {
    const { left, right, width } = this.frame;
    return tenth(left + ((at - this.begin) / (this.end - this.begin)) * (width - left - right));
  }

  y(value: number): number {
    const { top, bottom, height } = this.frame;
    return tenth(height - bottom - (Math.min(value, this.top) / this.top) * (height - top - bottom));
  }
}

const tenth = (value: number): number => Math.round(value * 10) / 10;

/** The `d` of a path through the points, with a gap where a value is missing. */
export function linePath(points: readonly Point[], scale: Scale): string {
  let path = "";
  let isDrawing = false;
  for (const { at, value } of points) {
    if (value !== null) path += `${isDrawing ? "L" : "M"}${scale.x(at)} ${scale.y(value)}`;
    isDrawing = value !== null;
  }
  return path;
}

/** Points with a gap on both sides, through which no line goes. */
export function lonePoints(points: readonly Point[]): { at: number; value: number }[] {
  return points.flatMap(({ at, value }, index) => {
    const isLone = (points[index - 1]?.value ?? null) === null && (points[index + 1]?.value ?? null) === null;
    return value !== null && isLone ? [{ at, value }] : [];
  });
}

/** At most `limit` of the items, at even distances, the last one always. */
export function thinned<T>(items: readonly T[], limit: number): T[] {
  const step = Math.max(1, Math.ceil(items.length / limit));
  return items.filter((_item, index) => (items.length - 1 - index) % step === 0);
}
