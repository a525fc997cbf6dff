/**
 * `state.json` of a running volume: what other commands need without asking. The truth is always whether the control
 * socket answers; a stale file is removed by the next command that holds the volume's lock.
 */
import { readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import type { Attachment } from "../attach/attachment.ts";
import { isAlive } from "../host/lock.ts";
import type { Paths } from "../host/paths.ts";

export interface DaemonState {
  name: string;
  pid: number;
  instance: number;
  device: string;
  uuid: string;
  nbdSocket: string;
  ctlSocket: string;
  /** ISO 8601, UTC. */
  startedAt: string;
  version: string;
  readOnly: boolean;
  attach: Attachment;
}

/** Writes `state.json` atomically, readable for everyone who may enter the folder. */
export async function writeState(path: string, state: DaemonState): Promise<void> {
  await writeFile(`${path}.new`, `${JSON.stringify(state, null, 2)}\n`, { mode: 0o644 });
  await rename(`${path}.new`, path);
}

/** The state file's content; `undefined` when it is absent or not valid. */
export async function readState(path: string): Promise<DaemonState | undefined> {
  try {
    const state = JSON.parse(await readFile(path, "utf8")) as DaemonState;
    return typeof state === "object" && state !== null && typeof state.name === "string" ? state : undefined;
  } catch {
    return undefined;
  }
}

/** Names of the volumes whose daemon listens on its control socket, sorted bytewise. */
export async function runningVolumes(paths: Paths): Promise<string[]> {
  const entries = await readdir(paths.runtimeRoot, { withFileTypes: true }).catch(() => []);
  const names = entries.filter((entry) => entry.isDirectory() && entry.name !== ".s").map((entry) => entry.name);
  const alive = await Promise.all(names.map((name) => isAlive(paths.volume(name).controlSocket)));
  return names.filter((_name, i) => alive[i]).sort();
}

/** Removes what a daemon leaves in the runtime folder when it ends. The control socket is its listener's to remove. */
export async function removeRuntimeFiles(paths: Paths, name: string): Promise<void> {
  const { folder, nbdSocket, pidFile, stateFile, tokenFile } = paths.volume(name);
  for (const path of [nbdSocket, pidFile, stateFile, `${stateFile}.new`, tokenFile]) await rm(path, { force: true });
  const left = await readdir(folder).catch(() => []);
  if (left.length === 0) await rm(folder, { recursive: true, force: true });
}
