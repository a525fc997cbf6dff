/** Disks of ploop by the path of their descriptor, and the socket on which the daemon of a running one answers. */
import { createHash, randomUUID } from "node:crypto";
import { realpathSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { type CreateImageOptions, NodeDirectory, PloopDisk } from "@vdo/ploop";
import { askIfRunning, controlRequest } from "../control/client.ts";
import { accessError } from "../errors.ts";
import type { ClientEnvironment } from "../host/environment.ts";
import { Paths } from "../host/paths.ts";
import { fromPloopAnswer } from "./ploop-failure.ts";
import { punchHoles } from "./punch-holes.ts";

/** A new random GUID, as descriptors write them. */
export function newPloopGuid(): string {
  return `{${randomUUID()}}`;
}

/** Opens the disk of a descriptor; with `punch`, discards give space back to the file system. `inline` as for `NodeFile`. */
export function loadPloopDisk(descriptor: string, { punch = false, inline = false } = {}): Promise<PloopDisk> {
  return PloopDisk.load({
    directory: new NodeDirectory(dirname(descriptor), { inline, ...(punch ? { punchHoles } : {}) }),
    name: basename(descriptor),
    newGuid: newPloopGuid,
  });
}

/** Makes an image at `path` and its descriptor in the same folder. */
export function createPloopDisk(path: string, image: CreateImageOptions): Promise<PloopDisk> {
  const directory = new NodeDirectory(dirname(path));
  return PloopDisk.create({ directory, file: basename(path), image, newGuid: newPloopGuid });
}

export interface PloopSockets {
  folder: string;
  control: string;
  nbd: string;
}

/** Sockets of the daemon that runs the disk of `descriptor`. Throws `VDO_USER` when there is no such file. */
export function ploopSockets(environment: ClientEnvironment, descriptor: string): PloopSockets {
  const folder = new Paths(environment).shortFolder;
  let path = descriptor;
  try {
    path = realpathSync(descriptor);
  } catch (error) {
    throw accessError(error, descriptor, "ploop");
  }
  const hash = createHash("sha256").update(path).digest("hex").slice(0, 16);
  return { folder, control: join(folder, `p${hash}.ctl`), nbd: join(folder, `p${hash}.nbd`) };
}

/** Asks the daemon of a disk. Throws what it threw, and `VDO_WRONG_STATE` when it does not run. */
export async function askPloop(
  environment: ClientEnvironment,
  descriptor: string,
  op: string,
  args: Readonly<Record<string, unknown>> = {},
): Promise<unknown> {
  return fromPloopAnswer(await controlRequest(ploopSockets(environment, descriptor).control, op, args));
}

export interface PloopStatus {
  pid: number;
  uri: string;
  status: string;
  sizeSectors: number;
  suspended: boolean;
  clients: number;
}

/** State of the daemon; undefined when the disk does not run. */
export async function ploopStatus(
  environment: ClientEnvironment,
  descriptor: string,
): Promise<PloopStatus | undefined> {
  return (await askIfRunning(ploopSockets(environment, descriptor).control, "status")) as PloopStatus | undefined;
}
