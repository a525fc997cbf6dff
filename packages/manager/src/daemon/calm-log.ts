/**
 * A log for lines that come again and again: a client that goes on writing to a volume in read-only mode would fill the disk
 * with the same complaint. Each text is written once in {@link INTERVAL_MILLISECONDS}; how often it came meanwhile is told then.
 */
import type { Clock } from "@vdo/base";
import type { LogText } from "./daemon.ts";

export const INTERVAL_MILLISECONDS = 10_000;

/** Different texts that are remembered. */
const TEXTS_MAX = 64;

/** `log`, but calm. */
export function calmLog(log: LogText, clock: Pick<Clock, "now">): LogText {
  const seen = new Map<string, { at: number; more: number }>();
  return (level, text) => {
    if (level === "info") return log(level, text);
    const now = clock.now();
    const before = seen.get(text);
    if (before !== undefined && now - before.at < INTERVAL_MILLISECONDS) {
      before.more++;
      return;
    }
    seen.delete(text);
    seen.set(text, { at: now, more: 0 });
    const [oldest] = seen.keys();
    if (seen.size > TEXTS_MAX && oldest !== undefined) seen.delete(oldest);
    log(level, before === undefined || before.more === 0 ? text : `${text} (and ${before.more} more like it)`);
  };
}
