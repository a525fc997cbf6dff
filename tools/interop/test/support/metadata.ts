/** The block map and the reference counts of a stopped volume, by our audit, to be compared with another's. */
import { createHash } from "node:crypto";
import { FileDevice } from "@vdo/block-device";
import { type AuditLine, auditVolume } from "@vdo/kvdo";

export interface Metadata {
  state: string;
  problems: string[];
  notes: string[];
  lines: AuditLine[];
  logicalBlocks: number;
  pages: number;
  /** Checksum of every mapping: number, block, state. */
  mappings: string;
  /** Checksum of the counts of every slab; the stored ones are equal to them when there are no problems. */
  references: string[];
}

export async function metadataOf(path: string): Promise<Metadata> {
  const device = await FileDevice.open({ path, readOnly: true });
  try {
    const mappings = createHash("sha256");
    const triple = new Float64Array(3);
    const audit = await auditVolume(device, {
      name: path,
      onMapping(lbn, pbn, state) {
        triple.set([lbn, pbn, state]);
        mappings.update(new Uint8Array(triple.buffer));
      },
    });
    const { references, state, problems, notes, lines } = audit;
    const sums = Array.from({ length: references.slabs }, (_, slab) => {
      const counts = references.ofSlab(slab);
      return counts === undefined ? "unused" : createHash("sha256").update(counts).digest("hex");
    });
    const { logicalBlocks, pages } = audit;
    return {
      ...{ state, problems, notes, lines, mappings: mappings.digest("hex"), references: sums },
      ...{ logicalBlocks: logicalBlocks.counted, pages: pages.counted },
    };
  } finally {
    await device.close();
  }
}
