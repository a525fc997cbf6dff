/** How far a recovery has come, for people. */
import type { RecoveryProgress } from "../engine.ts";

/** Why the start of the volume `name` takes longer. */
export function recoveryReason(name: string, { cause }: RecoveryProgress): string {
  if (cause === "rebuild") return `VDO ${name} is being rebuilt`;
  if (cause === "read-only") return `VDO ${name} is in read-only mode; reading its journal`;
  return `VDO ${name} was not stopped cleanly; recovering it`;
}

/** `recovering: block map, 40 %`; the percentage is left out where the end is not known. */
export function recoveryText(progress: RecoveryProgress): string {
  return `recovering: ${recoveryShare(progress)}`;
}

/** `block map, 40 %`. */
export function recoveryShare({ phase, done, of }: RecoveryProgress): string {
  return of === 0 ? phase : `${phase}, ${Math.floor((100 * Math.min(done, of)) / of)} %`;
}
