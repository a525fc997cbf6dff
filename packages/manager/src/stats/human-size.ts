/** Sizes with a unit, as `vdostats --human-readable` and `--si` print them. */

const UNITS = ["B", "K", "M", "G", "T"];

/**
 * One decimal and a unit. The unit is chosen before rounding, so a value just below the next unit prints as `1024.0M`, and
 * there is none above T. Ties round to even, as C's `printf` does and `toFixed` does not.
 */
export function humanSize(bytes: number, divisor: 1000 | 1024): string {
  let value = bytes;
  let unit = 0;
  while (value >= divisor && unit < UNITS.length - 1) {
    value /= divisor;
    unit++;
  }
  return `${oneDecimal(value)}${UNITS[unit]}`;
}

/** Exact ties at one decimal are the values of which four times is an odd integer: x.25 and x.75. */
function oneDecimal(value: number): string {
  const quarters = value * 4;
  if (!Number.isInteger(quarters) || quarters % 2 === 0) return value.toFixed(1);
  return `${Math.floor(value)}.${quarters % 4 === 1 ? 2 : 8}`;
}
