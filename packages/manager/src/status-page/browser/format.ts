/** Figures as people read them. */

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const STEP = 1024;

/** `1.5 GiB`; whole below 1 KiB. */
export function bytesText(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= STEP && unit < UNITS.length - 1) {
    value /= STEP;
    unit++;
  }
  return `${unit === 0 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`;
}

/** `12.0 MiB/s`. */
export function rateText(bytesPerSecond: number): string {
  return `${bytesText(bytesPerSecond)}/s`;
}

/** Two or three digits that matter: `0.45`, `4.5`, `45`, `4500`. */
export function shortNumber(value: number): string {
  if (value === 0) return "0";
  if (value < 1) return value.toFixed(2);
  return value < 10 ? value.toFixed(1) : String(Math.round(value));
}

/** `0.45 ms`, `none` without requests. */
export function millisecondsText(milliseconds: number | null): string {
  return milliseconds === null ? "none" : `${shortNumber(milliseconds)} ms`;
}

export function percentText(percent: number | null): string {
  return percent === null ? "not known yet" : `${percent} %`;
}

/** `5 seconds`, `3 minutes`, `2 hours`, `4 days`. */
export function durationText(seconds: number): string {
  for (const [size, unit] of [
    [86_400, "day"],
    [3600, "hour"],
    [60, "minute"],
  ] as const) {
    if (seconds >= size) return counted(Math.round(seconds / size), unit);
  }
  return counted(Math.round(seconds), "second");
}

function counted(count: number, unit: string): string {
  return `${count} ${unit}${count === 1 ? "" : "s"}`;
}

const two = (value: number): string => String(value).padStart(2, "0");

/** Local time of day, with the date when it is not that of `today`. */
export function timeText(at: Date, today: Date): string {
  const time = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  if (at.toDateString() === today.toDateString()) return time;
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${time}`;
}

/** `biosIn.write` of nested statistics, with their values; in order. */
export function flatValues(values: object, prefix = ""): [name: string, value: string][] {
  return Object.entries(values).flatMap(([key, value]) =>
    typeof value === "object" && value !== null
      ? flatValues(value as object, `${prefix}${key}.`)
      : [[`${prefix}${key}`, String(value)] as [string, string]],
  );
}
