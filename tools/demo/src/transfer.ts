/** Data to and from a served volume: by nbdcopy where it is installed, else by our own client. */
import { createHash } from "node:crypto";
import { closeSync, openSync, readSync } from "node:fs";
import { findProgram } from "@vdo/block-device/testing";
import { NbdClient } from "@vdo/nbd";
import { BLOCK } from "./files.ts";
import { run } from "./programs.ts";

const PIECE_BYTES = 1 << 20;
/** Requests of a piece each, under way together. */
const DEPTH = 8;

export type WriteClient = "nbdcopy" | "@vdo/nbd";

/** The client that writes: nbdcopy unless it is not installed or `own` asks for ours. */
export function chooseClient(own: boolean): WriteClient {
  if (!own && findProgram("nbdcopy") !== undefined) return "nbdcopy";
  if (!own) console.log("nbdcopy (Debian package libnbd-bin) is not installed: the client of @vdo/nbd writes");
  return "@vdo/nbd";
}

export interface WriteJob {
  client: WriteClient;
  image: string;
  imageBytes: number;
  uri: string;
}

/** Writes `image` to the beginning of the export and waits until it is durable. */
export async function writeImage({ client: chosen, image, imageBytes, uri }: WriteJob): Promise<void> {
  if (chosen === "nbdcopy") return run("nbdcopy", ["--flush", image, uri]);
  console.log(`\nwriting ${image} with the client of @vdo/nbd`);
  const client = await NbdClient.connect(uri);
  const source = openSync(image, "r");
  try {
    await inPieces(imageBytes, async (offset, buffer) => {
      readSync(source, buffer, 0, buffer.length, offset);
      await client.write(offset / BLOCK, buffer);
    });
    await client.flush();
  } finally {
    closeSync(source);
    await client.close();
  }
}

/** SHA-256 of each of the `copies` images of `imageBytes` that follow one another on the export. */
export async function readBack(uri: string, imageBytes: number, copies: number): Promise<string[]> {
  const client = await NbdClient.connect(uri, { readOnly: true });
  try {
    const sums: string[] = [];
    for (let copy = 0; copy < copies; copy++) {
      const sum = createHash("sha256");
      for (let at = 0; at < imageBytes; at += PIECE_BYTES * DEPTH) {
        const piece = new Uint8Array(Math.min(PIECE_BYTES * DEPTH, imageBytes - at));
        await client.read((copy * imageBytes + at) / BLOCK, piece);
        sum.update(piece);
      }
      sums.push(sum.digest("hex"));
    }
    return sums;
  } finally {
    await client.close();
  }
}

/** Runs `transfer` for every piece, several at a time, and shows how far it is. */
async function inPieces(total: number, transfer: (offset: number, buffer: Uint8Array) => Promise<void>): Promise<void> {
  let next = 0;
  let shown = 0;
  const worker = async (): Promise<void> => {
    while (next < total) {
      const offset = next;
      next += PIECE_BYTES;
      await transfer(offset, new Uint8Array(Math.min(PIECE_BYTES, total - offset)));
      const percent = Math.floor((Math.min(next, total) / total) * 10) * 10;
      if (percent > shown) console.log(`  ${percent} %`);
      shown = Math.max(shown, percent);
    }
  };
  await Promise.all(Array.from({ length: DEPTH }, worker));
}
