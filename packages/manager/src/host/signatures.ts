/**
 * What already lives on a device: file systems, RAID members, partition tables, another VDO. Formatting over one of them
 * needs `--force`. Where `wipefs` is found, whatever it sees besides is added (it only reads: `--no-act`).
 */
import type { BlockDevice } from "@vdo/block-device";
import { findSignatures as findKnownSignatures, type Signature } from "@vdo/kvdo";
import type { Programs } from "./programs.ts";

/** Signatures found on `device`, by offset. `path` lets `wipefs` look too. */
export async function findSignatures(device: BlockDevice, path: string, programs: Programs): Promise<Signature[]> {
  const found = new Map<number, Signature>();
  for (const signature of await findKnownSignatures(device)) found.set(signature.offset, signature);
  for (const signature of await wipefsSignatures(path, programs)) {
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
