/** Growth of a volume that is being served. Its checks are the engine's; here are the storage, the texts and the attachment. */
import { errorMessage, isVdoError } from "@vdo/base";
import { kernelStatus } from "@vdo/kvdo";
import { useOf } from "../attach/attachment.ts";
import { commandError } from "../errors.ts";
import type { Environment } from "../host/environment.ts";
import type { Storage } from "../host/storage.ts";
import type { Daemon } from "./daemon.ts";

/** Answer to a request to grow: what the user of an attached device has to do. */
export interface GrowReply {
  warning?: string;
}

/** Grows the presented device to `blocks` blocks of 4096 bytes. */
export async function growLogical(daemon: Daemon, blocks: unknown, environment: Environment): Promise<GrowReply> {
  await changing(daemon, () => daemon.volume.growLogical(Number(blocks)));
  return showNewSize(daemon, environment);
}

/** Grows the volume to `blocks` blocks of its storage, whose size is looked up first. */
export async function growPhysical(daemon: Daemon, blocks: unknown, { device }: Storage): Promise<GrowReply> {
  await changing(daemon, async () => {
    await device.refresh();
    await daemon.volume.growPhysical(Number(blocks));
  });
  return {};
}

async function changing(daemon: Daemon, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    const text = isVdoError(error) ? kernelStatus(error.code)?.text : undefined;
    const reason = text === undefined ? errorMessage(error) : `${text}: ${errorMessage(error)}`;
    throw commandError(
      "VDO_COMMAND_FAILED",
      `Device ${daemon.name} could not be changed; ${reason}`,
      daemon.name,
      error,
    );
  }
}

/** NBD tells clients the size when they connect, so a device of this machine is attached anew, unless it is in use. */
async function showNewSize(daemon: Daemon, environment: Environment): Promise<GrowReply> {
  const { attach } = daemon.state;
  if (attach.kind === "none") return {};
  try {
    if ((await useOf(attach, environment)) === undefined) {
      await daemon.detach();
      await daemon.attach(attach.kind);
      return {};
    }
  } catch {
    // Somebody took the device meanwhile, or it could not be made again: the growth stands, its user is told.
  }
  return {
    warning: `VDO ${daemon.name} has grown; its device is in use and keeps its size until it is unmounted, and the volume stopped and started`,
  };
}
