/** Real files packed into one image: each begins on a block of its own, as on a file system. */
import { createHash } from "node:crypto";
import { closeSync, lstatSync, openSync, readdirSync, readFileSync, realpathSync, writeSync } from "node:fs";
import { join } from "node:path";

export const BLOCK = 4096;

export interface Packed {
  files: number;
  /** Of the files themselves. */
  bytes: number;
  /** Of the image: a whole number of blocks. */
  imageBytes: number;
  /** Of the image's bytes. */
  sha256: string;
}

/** Regular files below `folder`, in the order of their names; links are not followed, and what git keeps is left out. */
function* filesBelow(folder: string): Generator<string> {
  for (const name of readdirSync(folder).sort()) {
    if (name === ".git") continue;
    const path = join(folder, name);
    const what = lstatSync(path);
    if (what.isDirectory()) yield* filesBelow(path);
    else if (what.isFile() && what.size > 0) yield path;
  }
}

export interface PackOptions {
  folders: readonly string[];
  image: string;
  /** Files beyond this total are left out. */
  bytesMax: number;
}

/** Writes the files of `folders` into `image`. */
export function packFiles({ folders, image, bytesMax }: PackOptions): Packed {
  const target = openSync(image, "w");
  const sum = createHash("sha256");
  const packed: Packed = { files: 0, bytes: 0, imageBytes: 0, sha256: "" };
  try {
    for (const folder of folders) {
      for (const path of filesBelow(realpathSync(folder))) {
        const content = readFileSync(path);
        if (packed.imageBytes + content.length > bytesMax) continue;
        const padded = Buffer.alloc(Math.ceil(content.length / BLOCK) * BLOCK);
        content.copy(padded);
        writeSync(target, padded);
        sum.update(padded);
        packed.files += 1;
        packed.bytes += content.length;
        packed.imageBytes += padded.length;
      }
    }
  } finally {
    closeSync(target);
  }
  packed.sha256 = sum.digest("hex");
  return packed;
}
