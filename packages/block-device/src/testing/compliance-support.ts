/** Helpers of the compliance suite that need no test framework. */
import { type ErrorCode, isVdoError, Random } from "@vdo/base";
import type { BlockDevice } from "../block-device.ts";

/** Throws unless `condition` holds. */
export function check(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Error(`block device contract broken: ${what}`);
}

/** `count` blocks of bytes that depend on `seed` alone. */
export function pattern(device: BlockDevice, count: number, seed: number): Uint8Array {
  return new Random(seed).fill(new Uint8Array(count * device.blockSize));
}

export async function readBack(device: BlockDevice, start: number, count: number): Promise<Uint8Array> {
  const target = new Uint8Array(count * device.blockSize).fill(0x77);
  await device.read(start, target);
  return target;
}

/** Throws unless `act` rejects (not: throws) with `code`. */
export async function refuses(act: () => Promise<unknown>, code: ErrorCode, what: string): Promise<void> {
  let outcome: Promise<unknown>;
  try {
    outcome = act();
  } catch (error) {
    check(false, `${what}: threw instead of returning a rejected promise: ${error}`);
  }
  let thrown: unknown;
  let resolved = false;
  try {
    await outcome;
    resolved = true;
  } catch (error) {
    thrown = error;
  }
  check(!resolved, `${what}: succeeded, expected ${code}`);
  check(isVdoError(thrown, code), `${what}: expected ${code}, got ${thrown}`);
}
