/** The engine under test: the real one, or a copy of it with one line changed. */
import * as real from "@vdo/kvdo";

export type Engine = Pick<typeof real, "VdoVolume" | "setReadOnly" | "forceRebuild">;

export const realEngine: Engine = real;

/** The engine whose `index.ts` is at `url`. */
export async function loadEngine(url: string): Promise<Engine> {
  return (await import(url)) as Engine;
}
