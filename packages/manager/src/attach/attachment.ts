/**
 * Attachments: how a volume that is served over NBD becomes a device or a file of this machine.
 *
 * | kind | needs | path |
 * |---|---|---|
 * | nbd | the kernel's nbd driver, nbd-client, root | /dev/vdo/NAME → /dev/nbdN |
 * | fuse | nbdfuse; for a block device losetup and root | /dev/vdo/NAME → /dev/loopN, or the file DIR/nbd |
 * | none | nothing | the NBD URI |
 *
 * The daemon makes and undoes its own attachment. Nothing is ever created in /dev/mapper.
 */
import { lstat, mkdir, readdir, readFile, readlink, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import { commandError } from "../errors.ts";
import type { Environment } from "../host/environment.ts";
import type { Paths } from "../host/paths.ts";
import type { AttachChoice } from "../values.ts";
import { attachFuse, detachFuse, fuseObstacle } from "./fuse.ts";
import { attachNbd, detachNbd, nbdObstacle } from "./nbd.ts";

/** An attachment that was made; kept in `state.json`. */
export interface Attachment {
  kind: "nbd" | "fuse" | "none";
  /** What the user mounts or connects to. */
  path: string;
  /** Block device node, if there is one. */
  device?: string | undefined;
  /** Link to the node, if it could be made. */
  link?: string | undefined;
  /** Folder on which nbdfuse is mounted. */
  mountDir?: string | undefined;
  /** Why this kind was chosen, for people. */
  reason: string;
}

export interface AttachRequest {
  name: string;
  choice: AttachChoice;
  readOnly: boolean;
  /** 512 with emulation, else 4096. */
  blockSize: number;
  environment: Environment;
  paths: Paths;
  /** File descriptor that receives the output of helper programs. */
  log: number;
}

/** A way of attaching: what stands against it here, and how it is done and undone. */
interface Way {
  obstacle(environment: Environment): Promise<string | undefined>;
  attach(request: AttachRequest): Promise<Omit<Attachment, "reason" | "link">>;
  detach(attachment: Attachment, environment: Environment): Promise<void>;
}

const WAYS: { readonly [kind in "nbd" | "fuse"]: Way } = {
  nbd: { obstacle: nbdObstacle, attach: attachNbd, detach: detachNbd },
  fuse: { obstacle: fuseObstacle, attach: attachFuse, detach: detachFuse },
};

/** NBD URI of a volume: understood by qemu and the libnbd tools. */
export function nbdUri(name: string, socket: string): string {
  return `nbd+unix:///${encodeURIComponent(name)}?socket=${encodeURI(socket)}`;
}

/** Attaches as `choice` says. Throws `VDO_SYSTEM`, `Cannot attach VDO NAME: REASON`, when that is impossible. */
export async function attach(request: AttachRequest): Promise<Attachment> {
  const { name, choice, environment, paths } = request;
  const none: Attachment = { kind: "none", path: nbdUri(name, paths.volume(name).nbdSocket), reason: "asked for" };
  if (choice === "none") return none;
  if (choice !== "auto") return make(request, choice, "asked for");
  if (environment.uid !== 0) return { ...none, reason: "only root can make a block device" };
  const reasons: string[] = [];
  for (const kind of ["nbd", "fuse"] as const) {
    try {
      const attachment = await make(request, kind, "");
      return { ...attachment, reason: reasons.length === 0 ? "the kernel's own client is there" : reasons.join("; ") };
    } catch (error) {
      reasons.push(`${kind}: ${(error as Error).message.replace(/^Cannot attach VDO \S+: /, "")}`);
    }
  }
  return { ...none, reason: reasons.join("; ") };
}

async function make(request: AttachRequest, kind: "nbd" | "fuse", reason: string): Promise<Attachment> {
  const { name, environment } = request;
  const obstacle = await WAYS[kind].obstacle(environment);
  if (obstacle !== undefined) throw commandError("VDO_SYSTEM", `Cannot attach VDO ${name}: ${obstacle}`, name);
  try {
    const made = await WAYS[kind].attach(request);
    const link = made.device === undefined ? undefined : await makeLink(request, made.device);
    return { ...made, path: link ?? made.path, link, reason };
  } catch (error) {
    throw commandError("VDO_SYSTEM", `Cannot attach VDO ${name}: ${(error as Error).message}`, name, error);
  }
}

/** Undoes an attachment. Throws `VDO_SYSTEM` when a device or mount stays busy. */
export async function detach(attachment: Attachment, environment: Environment): Promise<void> {
  if (attachment.kind === "none") return;
  await WAYS[attachment.kind].detach(attachment, environment);
  await removeLink(attachment);
}

async function makeLink({ name, paths }: AttachRequest, device: string): Promise<string | undefined> {
  const link = join(paths.deviceFolder, name);
  try {
    await mkdir(paths.deviceFolder, { recursive: true, mode: 0o755 });
    const old = await lstat(link).catch(() => undefined);
    if (old?.isSymbolicLink() === true) await rm(link);
    await symlink(device, link);
    return link;
  } catch {
    // A device folder that cannot be written costs the link only: the node itself is shown.
    return undefined;
  }
}

async function removeLink({ link, device }: Attachment): Promise<void> {
  if (link === undefined) return;
  const target = await readlink(link).catch(() => undefined);
  if (target === device) await rm(link, { force: true });
}

/** How an attached device is used by others: `held` by another block device, `mounted`, or not at all. */
export async function useOf(attachment: Attachment, environment: Environment): Promise<"held" | "mounted" | undefined> {
  const { device, link } = attachment;
  if (device === undefined) return undefined;
  const holders = join(environment.systemRoot, "/sys/class/block", device.replace("/dev/", ""), "holders");
  if ((await readdir(holders).catch(() => [])).length > 0) return "held";
  const mounts = await readFile(join(environment.systemRoot, "/proc/self/mounts"), "utf8").catch(() => "");
  const sources = mounts.split("\n").map((line) => unescapeMount(line.split(" ")[0] ?? ""));
  return sources.includes(device) || (link !== undefined && sources.includes(link)) ? "mounted" : undefined;
}

/** `/proc/mounts` writes blanks and the like as `\040`. */
function unescapeMount(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_match, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
