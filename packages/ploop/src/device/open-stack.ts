/** The deltas of a stack, and whether they fit together. */
import { badArgument, corrupt } from "../errors.ts";
import type { ImageFile } from "../file/image-file.ts";
import { versionOf } from "../format/header.ts";
import { Delta } from "../image/delta.ts";

/** Deltas of the library's stacks, as of the original's. */
const DELTAS_MAX = 127;

export interface StackFile {
  file: ImageFile;
  /** A plain image: only the base can be one. */
  raw?: boolean;
}

/** Opens the deltas, base first, and checks that they fit together. Throws `VDO_CORRUPT`, `VDO_BAD_ARGUMENT`. */
export async function openStack(files: readonly StackFile[]): Promise<Delta[]> {
  const last = files.at(-1);
  if (last === undefined) throw badArgument("deltas", 0, "a stack has at least one delta");
  if (last.raw === true) {
    throw badArgument("deltas", last.file.name, "the top is a raw image; make a snapshot over it first");
  }
  if (files.length > DELTAS_MAX) throw badArgument("deltas", files.length, `a stack has at most ${DELTAS_MAX} deltas`);
  const seen = new Map<string, string>();
  for (const { file } of files) {
    const other = file.identity === undefined ? undefined : seen.get(file.identity);
    if (other !== undefined) throw corrupt(file.name, "file", "one that is no other delta too", other);
    if (file.identity !== undefined) seen.set(file.identity, file.name);
  }
  const top = await Delta.open(last.file);
  const deltas = [top];
  for (const { file, raw } of files.slice(0, -1).reverse()) {
    const above = deltas[0] as Delta;
    const delta = raw === true ? Delta.openRaw(file, top.clusterBytes) : await Delta.open(file);
    if (!delta.raw) checkFits(delta, top);
    else if (file !== files[0]?.file) throw badArgument("deltas", file.name, "only the base can be raw");
    if (delta.clusterCount > above.clusterCount) {
      throw corrupt(delta.name, "BAT size", `at most ${above.clusterCount}, as the delta above`, delta.clusterCount);
    }
    deltas.unshift(delta);
  }
  return deltas;
}

export function checkFits(delta: Delta, top: Delta): void {
  const { clusterSectors } = top.header;
  if (delta.header.clusterSectors !== clusterSectors) {
    throw corrupt(delta.name, "cluster size", `${clusterSectors}, as of the top`, delta.header.clusterSectors);
  }
  if (versionOf(delta.header) !== versionOf(top.header)) {
    throw corrupt(delta.name, "signature", `that of the top, ${top.header.signature}`, delta.header.signature);
  }
}
