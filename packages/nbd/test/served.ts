/** Servers for tests, on sockets in a temporary directory. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NbdServer, type NbdServerOptions } from "@vdo/nbd";
import { RawPeer } from "./raw-peer.ts";

export interface Served {
  server: NbdServer;
  path: string;
}

let directory: string | undefined;
let count = 0;
const running: NbdServer[] = [];

/** A path for a socket, new each time. */
export function newPath(): string {
  directory ??= mkdtempSync(join(tmpdir(), "nbd-test-"));
  return join(directory, `${count++}.sock`);
}

export async function serve(options: NbdServerOptions): Promise<Served> {
  const path = newPath();
  const server = new NbdServer(options);
  await server.listen({ path });
  running.push(server);
  return { server, path };
}

/** Ends all raw peers, stops what {@link serve} started, and removes the directory. */
export async function stopAll(): Promise<void> {
  RawPeer.closeAll();
  await Promise.all(running.splice(0).map((server) => server.close({ graceMs: 200 })));
  if (directory !== undefined) rmSync(directory, { recursive: true, force: true });
  directory = undefined;
}

/** A clock whose time a test moves. */
export class HandClock {
  #now = 0;
  #timers: { at: number; run: () => void }[] = [];

  now(): number {
    return this.#now;
  }

  wallMicroseconds(): number {
    return this.#now * 1000;
  }

  after(milliseconds: number, run: () => void): () => void {
    const timer = { at: this.#now + milliseconds, run };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  advance(milliseconds: number): void {
    this.#now += milliseconds;
    const due = this.#timers.filter(({ at }) => at <= this.#now);
    this.#timers = this.#timers.filter(({ at }) => at > this.#now);
    for (const { run } of due) run();
  }
}

/** Lets the event loop turn until `condition` holds; fails after a few seconds. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  const end = performance.now() + 5000;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`waited in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
