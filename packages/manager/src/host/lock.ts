/**
 * Locks by listening: who listens on a socket holds the lock, and the system releases it when the process ends, however
 * it ends.
 *
 * A killed holder leaves its socket's file behind. Then listening fails with EADDRINUSE and connecting with ECONNREFUSED;
 * the file is removed and listening tried again. Two processes that find the same stale file must not remove each other's
 * new one, so on Linux the whole attempt happens under an abstract socket name, which needs no clean-up and vanishes with
 * its holder. (Elsewhere the window of a few microseconds remains.)
 */
import { createHash } from "node:crypto";
import { rm } from "node:fs/promises";
import { createConnection, createServer, type Server } from "node:net";
import type { Clock } from "@vdo/base";
import { errnoOf } from "../errors.ts";

/** Pause between two attempts, in milliseconds. */
const RETRY_MILLISECONDS = 100;

export interface Lock {
  /** Releases the lock and removes its file. */
  release(): Promise<void>;
}

/** Listens on `path`; resolves `false` when a living process already does. Removes what a dead one left. */
export async function listenExclusively(server: Server, path: string, clock: Clock): Promise<boolean> {
  const guard = await takeGuard(path, clock);
  try {
    if (await tryListen(server, path)) return true;
    if (await isAlive(path)) return false;
    await rm(path, { force: true });
    return await tryListen(server, path);
  } finally {
    if (guard !== undefined) await closeServer(guard);
  }
}

/** Takes the lock `path`, waiting up to `milliseconds` for its holder; `undefined` when it could not be had. */
export async function acquireLock(path: string, milliseconds: number, clock: Clock): Promise<Lock | undefined> {
  const deadline = clock.now() + milliseconds;
  for (;;) {
    const server = createServer((socket) => socket.destroy());
    if (await listenExclusively(server, path, clock)) return { release: () => closeServer(server) };
    if (clock.now() >= deadline) return undefined;
    await pause(RETRY_MILLISECONDS, clock);
  }
}

/** True when a process listens on the socket `path`. */
export function isAlive(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    // EAGAIN: the queue of a living but busy listener is full.
    socket.once("error", (error) => resolve(errnoOf(error) === "EAGAIN" || errnoOf(error) === "EACCES"));
  });
}

/** Waits `milliseconds`. */
export function pause(milliseconds: number, clock: Clock): Promise<void> {
  return new Promise((resolve) => {
    // The clock's timers keep no process alive; a command that waits must live.
    const alive = setInterval(() => undefined, 1 << 30);
    clock.after(milliseconds, () => {
      clearInterval(alive);
      resolve();
    });
  });
}

/** Stops listening; connections that are open stay. */
export function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()));
}

/**
 * A lock on `subject` for the whole machine (more exactly for its network namespace), whatever runtime folder its holders use,
 * and though somebody deletes that folder: on Linux a listening abstract socket. `undefined` when it is taken; elsewhere a lock
 * that keeps nobody out.
 */
export async function acquireMachineLock(subject: string): Promise<Lock | undefined> {
  if (process.platform !== "linux") return { release: async () => undefined };
  const server = createServer((socket) => socket.destroy());
  if (!(await tryListen(server, abstractName("lock", subject)))) return undefined;
  return { release: () => closeServer(server) };
}

function abstractName(kind: "guard" | "lock", subject: string): string {
  return `\0vdo-${kind}-${createHash("sha256").update(subject).digest("hex").slice(0, 32)}`;
}

async function takeGuard(path: string, clock: Clock): Promise<Server | undefined> {
  if (process.platform !== "linux") return undefined;
  const name = abstractName("guard", path);
  for (;;) {
    const guard = createServer((socket) => socket.destroy());
    if (await tryListen(guard, name)) return guard;
    await pause(RETRY_MILLISECONDS / 10, clock);
  }
}

/** Resolves `false` when the address is in use; rejects for other errors. */
function tryListen(server: Server, path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const onError = (error: Error): void => {
      server.removeListener("listening", onListening);
      if (errnoOf(error) === "EADDRINUSE") resolve(false);
      else reject(error);
    };
    const onListening = (): void => {
      server.removeListener("error", onError);
      resolve(true);
    };
    server.once("error", onError);
    server.once("listening", onListening);
    server.listen(path);
  });
}
