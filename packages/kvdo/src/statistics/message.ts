/** The answer to the `stats` message: the statistics as one line. */
import type { VdoStatistics } from "./statistics.ts";

type Value = number | string | boolean | { readonly [name: string]: Value };

function render(value: Value): string {
  if (typeof value === "boolean") return value ? "1" : "0";
  if (typeof value !== "object") return String(value);
  let text = "{ ";
  for (const name of Object.keys(value)) text += `${name} : ${render(value[name]!)}, `;
  return `${text}}`;
}

/**
 * `{ version : 36, …, packer : { compressedFragmentsWritten : 0, …, }, … }`: every member is followed by a comma and a
 * blank, the last one too. Members come in the order of the object, which `emptyStatistics` makes that of the kernel.
 */
export function statsMessage(statistics: VdoStatistics): string {
  return render(statistics as unknown as Value);
}
