/** Reads an answer to the `stats` message back into an object. Numbers beyond 2^53 lose their last digits. */
import type { VdoStatistics } from "../../src/statistics/index.ts";

export function parseStatsMessage(text: string): VdoStatistics {
  const json = text
    .replace(/(\w+) :/g, '"$1" :')
    .replace(/: ([a-z][a-z-]*),/g, ': "$1",')
    .replace(/, }/g, " }");
  const object = JSON.parse(json) as VdoStatistics;
  return { ...object, inRecoveryMode: Boolean(object.inRecoveryMode) };
}
