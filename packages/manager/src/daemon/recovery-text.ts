/** How far a recovery has come, for people. */
import type { RecoveryProgress } from "../engine.ts";

/** `recovering: block map, 40 %`; the percentage is left out where the end is not known. */
export function recoveryText(progress: RecoveryProgress): string {
  return `recovering: ${recoveryShare(progress)}`;
}

/** `block map, 40 %`. */
export function recoveryShare({ phase, done, of }: RecoveryProgress): string {
  return of === 0 ? phase : `${phase}, ${Math.floor((100 * Math.min(done, of)) / of)} %`;
}
