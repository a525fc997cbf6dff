/**
 * What already lives on a device: file systems, RAID members, partition tables, another VDO. Formatting over one of them
 * needs `--force`. Where `wipefs` is found, whatever it sees besides is added (it only reads: `--no-act`).
 */
import { mkdtemp, open, rm } from "node:fs/promises";
import { join } from "node:path";
import type { BlockDevice } from "@vdo/block-device";
import { findSignatures as findKnownSignatures, type Signature } from "@vdo/kvdo";
import { errnoOf } from "../errors.ts";
import type { Programs } from "./programs.ts";
import { isNbdUri } from "./storage-location.ts";

/** What is looked at, and with what. */
export interface SignatureSearch {
  device: BlockDevice;
  /** Where `wipefs` finds the same storage; it is shown a copy of the ends of an NBD export. */
  path: string;
  programs: Programs;
  /** Folder for that copy. */
  temporaryFolder: string;
}

/** Signatures found on the device, by offset. */
export async function findSignatures(search: SignatureSearch): Promise<Signature[]> {
  const { device, path, programs } = search;
  const found = new Map<number, Signature>();
  for (const signature of await findKnownSignatures(device)) found.set(signature.offset, signature);
  const others = isNbdUri(path) ? await exportSignatures(search) : await wipefsSignatures(path, programs);
  for (const signature of others) {
    if (!found.has(signature.offset)) found.set(signature.offset, signature);
  }
  return [...found.values()].sort((a, b) => a.offset - b.offset);
}

/** One line of the formatter's report: `Found existing signature on /dev/sdb at offset 0: …`. */
export function describeSignature(path: string, { offset, label, uuid, type, usage }: Signature): string {
  const quoted = (text: string | undefined): string => `"${text ?? "(null)"}"`;
  const fields = `LABEL=${quoted(label)} UUID=${quoted(uuid)} TYPE=${quoted(type)} USAGE=${quoted(usage)}`;
  return `Found existing signature on ${path} at offset ${offset}: ${fields}.`;
}

/** Where signatures are: at the beginning, and at the end (those of some RAID members and of partition tables). */
const END_BYTES = 2 * 1024 ** 2;

/** A sparse file of the export's size with its two ends, for `wipefs`. Nothing where such a file cannot be made. */
async function exportSignatures({ device, programs, temporaryFolder }: SignatureSearch): Promise<Signature[]> {
  if (programs.find("wipefs") === undefined) return [];
  const { blockSize, blockCount } = device;
  const count = Math.min(blockCount, END_BYTES / blockSize);
  const folder = await mkdtemp(join(temporaryFolder, "ends-"));
  try {
    const path = join(folder, "export");
    const file = await open(path, "wx", 0o600);
    try {
      await file.truncate(blockCount * blockSize);
      for (const start of [0, blockCount - count]) {
        const bytes = new Uint8Array(count * blockSize);
        await device.read(start, bytes);
        await file.write(bytes, 0, bytes.length, start * blockSize);
      }
    } finally {
      await file.close();
    }
    return await wipefsSignatures(path, programs);
  } catch (error) {
    if (errnoOf(error) === "EFBIG" || errnoOf(error) === "ENOSPC") return [];
    throw error;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function wipefsSignatures(path: string, programs: Programs): Promise<Signature[]> {
  if (programs.find("wipefs") === undefined) return [];
  const { status, stdout } = await programs.run("wipefs", ["--no-act", "--json", path]);
  if (status !== 0 || stdout.trim() === "") return [];
  const parsed = JSON.parse(stdout) as { signatures?: Record<string, string | null>[] };
  return (parsed.signatures ?? []).map(({ offset, type, uuid, label }) => ({
    offset: Number(offset),
    type: type ?? "unknown",
    usage: "other",
    ...(uuid ? { uuid } : {}),
    ...(label ? { label } : {}),
  }));
}
