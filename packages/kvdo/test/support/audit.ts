/** The audit of `@vdo/kvdo` as tests use it: everything that a cleanly stopped volume must fulfil, and its mappings. */
import type { BlockDevice } from "@vdo/block-device";
import { auditVolume } from "../../src/audit/index.ts";

export interface Audit {
  problems: string[];
  /** Mapped logical blocks by number: [pbn, state]. */
  mappings: Map<number, [pbn: number, state: number]>;
}

/** Audits the volume on `device`, which was stopped cleanly. */
export async function audit(device: BlockDevice): Promise<Audit> {
  const mappings = new Map<number, [number, number]>();
  const onMapping = (lbn: number, pbn: number, state: number): void => void mappings.set(lbn, [pbn, state]);
  const { state, problems, notes } = await auditVolume(device, { onMapping });
  const states = state === "CLEAN" ? [] : [`state ${state}, not CLEAN`];
  return { problems: [...states, ...problems, ...notes], mappings };
}
