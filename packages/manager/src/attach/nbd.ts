/** Attaching through the kernel's nbd driver and `nbd-client`. */
import { access, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { commandError } from "../errors.ts";
import type { Environment } from "../host/environment.ts";
import { pause } from "../host/lock.ts";
import { mustRun, programFailure } from "../host/programs.ts";
import type { Attachment, AttachRequest } from "./attachment.ts";

/** Attempts, 100 ms apart, to see the device connected. */
const CONNECT_ATTEMPTS = 100;

/** What stands against this way on this machine, or `undefined`. Tries to load the driver once. */
export async function nbdObstacle(environment: Environment): Promise<string | undefined> {
  if (environment.uid !== 0) return "the kernel's nbd devices need root";
  if (environment.programs.find("nbd-client") === undefined) return "nbd-client was not found (package nbd-client)";
  if (await exists(environment, "/dev/nbd0")) return undefined;
  if (environment.programs.find("modprobe") !== undefined) await environment.programs.run("modprobe", ["nbd"]);
  return (await exists(environment, "/dev/nbd0")) ? undefined : "this kernel has no nbd driver";
}

export async function attachNbd(request: AttachRequest): Promise<Omit<Attachment, "reason" | "link">> {
  const { name, blockSize, readOnly, environment, paths } = request;
  const device = await freeDevice(environment);
  if (device === undefined) throw commandError("VDO_SYSTEM", "every nbd device is in use", name);
  const args = ["-unix", paths.volume(name).nbdSocket, device, "-N", name, "-b", String(blockSize)];
  await mustRun(environment.programs, "nbd-client", readOnly ? [...args, "-readonly"] : args);
  for (let attempt = 0; attempt < CONNECT_ATTEMPTS; attempt++) {
    const check = await environment.programs.run("nbd-client", ["-c", device]);
    if (check.status === 0) return { kind: "nbd", path: device, device };
    await pause(100, environment.clock);
  }
  await environment.programs.run("nbd-client", ["-d", device]);
  throw commandError("VDO_SYSTEM", `${device} did not connect`, name);
}

export async function detachNbd({ device = "" }: Attachment, environment: Environment): Promise<void> {
  const result = await environment.programs.run("nbd-client", ["-d", device]);
  if (result.status !== 0) throw commandError("VDO_SYSTEM", programFailure("nbd-client", result), device);
}

/** The first `/dev/nbdI` without a client and of size 0. */
async function freeDevice({ systemRoot }: Environment): Promise<string | undefined> {
  const folder = join(systemRoot, "/sys/block");
  const names = (await readdir(folder).catch(() => [])).filter((name) => /^nbd\d+$/.test(name));
  names.sort((a, b) => Number(a.slice(3)) - Number(b.slice(3)));
  for (const name of names) {
    const size = await readFile(join(folder, name, "size"), "utf8").catch(() => "1");
    const used = await readFile(join(folder, name, "pid"), "utf8").catch(() => undefined);
    if (used === undefined && size.trim() === "0") return `/dev/${name}`;
  }
  return undefined;
}

function exists({ systemRoot }: Environment, path: string): Promise<boolean> {
  return access(join(systemRoot, path)).then(
    () => true,
    () => false,
  );
}
