/** Leaving and entering read-only mode from outside, as vdoforcerebuild and vdoreadonly do on a stopped volume (tools 8.3). */
import { VdoError } from "@vdo/base";
import type { BlockDevice } from "@vdo/block-device";
import { VOLUME_STATE, type VolumeState, volumeStateName } from "../format/index.ts";
import type { RebuildReport } from "../recovery/rebuild.ts";
import { openStopped, planRebuild } from "./open-parts.ts";

async function setState(device: BlockDevice, check: (state: VolumeState) => void, state: VolumeState): Promise<void> {
  const { keeper } = await openStopped(device);
  check(keeper.state);
  const { recoveryJournal } = keeper.value;
  await keeper.save(state, recoveryJournal);
}

/**
 * Marks a volume that is in read-only mode to be rebuilt at its next start. With `dryRun` nothing is written. Returns what
 * the rebuild keeps and what it loses. Throws `VDO_INVALID_ADMIN_STATE` for a volume that is not in read-only mode.
 */
export async function forceRebuild(device: BlockDevice, { dryRun = false } = {}): Promise<RebuildReport> {
  const report = await planRebuild(device, (state) => {
    if (state === VOLUME_STATE.readOnly || state === VOLUME_STATE.forceRebuild) return;
    throw new VdoError(
      "VDO_INVALID_ADMIN_STATE",
      `the volume is in state ${volumeStateName(state)}, not in read-only mode: it needs no rebuild`,
      { operation: "force rebuild", state: volumeStateName(state) },
    );
  });
  if (!dryRun) await setState(device, () => undefined, VOLUME_STATE.forceRebuild);
  return report;
}

/** Puts a stopped volume into read-only mode: its next start serves reads only. Any state is accepted, as vdoreadonly does. */
export function setReadOnly(device: BlockDevice): Promise<void> {
  return setState(device, () => undefined, VOLUME_STATE.readOnly);
}
