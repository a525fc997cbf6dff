/**
 * The daemon of one ploop disk: the running stack, served over NBD, and a control socket on which commands reach it. The
 * disk is served until it is stopped.
 */
import { mkdir } from "node:fs/promises";
import { errorMessage } from "@vdo/base";
import { NbdServer } from "@vdo/nbd";
import { type PloopDevice, type PloopDisk, statusLine } from "@vdo/ploop";
import type { ControlRequest } from "../control/protocol.ts";
import { type ControlHandler, ControlServer } from "../control/server.ts";
import { commandError } from "../errors.ts";
import type { ClientEnvironment } from "../host/environment.ts";
import { Paths } from "../host/paths.ts";
import { actOnBitmaps, type BitmapRequest } from "./ploop-bitmaps.ts";
import { loadPloopDisk, type PloopStatus, ploopSockets } from "./ploop-disk.ts";
import { toPloopFailure } from "./ploop-failure.ts";

export interface PloopServeOptions {
  /** Path of the descriptor. */
  descriptor: string;
  environment: ClientEnvironment;
  readOnly?: boolean;
  /** A snapshot instead of the top; read-only. */
  guid?: string;
  /** NBD socket; default: one in the runtime folder. */
  socket?: string;
  /** Give the space of discarded clusters back to the file system. */
  punch?: boolean;
  onError?(text: string): void;
}

/** Errors of ploop reach the command whole: its exit status is the original's. */
function withPloopErrors(handler: ControlHandler): ControlHandler {
  return async (request) => {
    try {
      return await handler(request);
    } catch (error) {
      const failed = toPloopFailure(error);
      if (failed === undefined) throw error;
      return failed;
    }
  };
}

/** Time that requests in flight have to be answered when the disk stops, in milliseconds. */
const GRACE_MILLISECONDS = 30_000;

export class PloopServer {
  readonly uri: string;
  /** Resolves when the disk was closed; rejects when that failed. */
  readonly ended: Promise<void>;
  readonly #disk: PloopDisk;
  readonly #device: PloopDevice;
  readonly #nbd: NbdServer;
  readonly #control: ControlServer;
  #stopping: Promise<void> | undefined;
  /** How far the long operation under way is. */
  #progress: { done: number; total: number } | null = null;
  #end: { resolve: () => void; reject: (error: unknown) => void } = {
    resolve: () => undefined,
    reject: () => undefined,
  };

  private constructor(disk: PloopDisk, device: PloopDevice, options: PloopServeOptions, socket: string) {
    this.#disk = disk;
    this.#device = device;
    this.uri = `nbd+unix:///?socket=${encodeURI(socket)}`;
    this.#nbd = new NbdServer({
      exports: [{ name: "", device, description: `ploop disk ${options.descriptor}` }],
      onError: (error) => options.onError?.(errorMessage(error)),
    });
    this.#control = new ControlServer(
      new Map([...this.#handlers()].map(([name, handler]) => [name, withPloopErrors(handler)])),
    );
    this.ended = new Promise((resolve, reject) => {
      this.#end = { resolve, reject };
    });
  }

  /** Throws `VDO_WRONG_STATE` when the disk runs already, and what opening it throws. */
  static async start(options: PloopServeOptions): Promise<PloopServer> {
    const { environment, descriptor, readOnly, guid } = options;
    await new Paths(environment).prepare();
    const sockets = ploopSockets(environment, descriptor);
    await mkdir(sockets.folder, { recursive: true });
    const disk = await loadPloopDisk(descriptor, { punch: options.punch === true, inline: true });
    // The control socket is the lock, so it comes before the images; until they are open it answers with an error.
    const early = new ControlServer(new Map());
    if (!(await early.listen(sockets.control, 0o600, environment.clock))) {
      throw commandError("VDO_WRONG_STATE", `${descriptor} is running already`, descriptor);
    }
    let device: PloopDevice;
    try {
      if (readOnly !== true && guid === undefined) await disk.finishMerges();
      device = await disk.open({
        readOnly: readOnly === true,
        ...(guid === undefined ? {} : { guid }),
        ...(options.onError === undefined ? {} : { onWarning: options.onError }),
      });
    } finally {
      early.close();
    }
    const socket = options.socket ?? sockets.nbd;
    const server = new PloopServer(disk, device, options, socket);
    try {
      if (!(await server.#control.listen(sockets.control, 0o600, environment.clock))) {
        throw commandError("VDO_WRONG_STATE", `${descriptor} is running already`, descriptor);
      }
      await server.#nbd.listen({ path: socket });
    } catch (error) {
      server.#control.close();
      await device.close();
      throw error;
    }
    return server;
  }

  status(): PloopStatus {
    const device = this.#device;
    return {
      pid: process.pid,
      uri: this.uri,
      status: statusLine(device),
      sizeSectors: (device.blockCount * device.blockSize) / 512,
      suspended: device.isSuspended,
      clients: this.#nbd.connectionCount,
    };
  }

  /** Ends the export, then closes the disk. */
  stop(): Promise<void> {
    this.#stopping ??= (async () => {
      try {
        if (this.#device.isSuspended) {
          this.#device.noResume = false;
          this.#device.resume();
        }
        await this.#nbd.close({ graceMs: GRACE_MILLISECONDS });
        await this.#device.close();
        this.#end.resolve();
      } catch (error) {
        this.#end.reject(error);
        throw error;
      } finally {
        this.#control.close();
      }
    })();
    return this.#stopping;
  }

  /** Runs an operation that tells how far it is. */
  async #long<T>(work: (progress: (done: number, total: number) => void) => Promise<T>): Promise<T> {
    try {
      return await work((done, total) => {
        this.#progress = { done, total };
      });
    } finally {
      this.#progress = null;
    }
  }

  #handlers(): Map<string, ControlHandler> {
    const device = this.#device;
    const disk = this.#disk;
    const text = (request: ControlRequest, name: string): string => String(request[name] ?? "");
    return new Map<string, ControlHandler>([
      ["status", () => this.status()],
      ["stop", () => this.stop()],
      ["suspend", () => device.suspend()],
      // As the kernel's table that is loaded anew: the length is the image's.
      [
        "resume",
        () => {
          device.reloadLength();
          device.resume();
        },
      ],
      [
        "message",
        (request) =>
          this.#long((progress) =>
            disk.message(device, request["words"] as string[], {
              openFile: (name, options) => disk.directory.open(name, options),
              progress,
            }),
          ),
      ],
      ["progress", () => this.#progress],
      ["bitmap", (request) => actOnBitmaps(device, request as unknown as BitmapRequest)],
      [
        "snapshot",
        (request) => {
          const [guid, bitmap] = [text(request, "guid"), text(request, "bitmap")];
          return disk.snapshot({ device, ...(guid === "" ? {} : { guid }), ...(bitmap === "" ? {} : { bitmap }) });
        },
      ],
      [
        "snapshot-delete",
        (request) => this.#long((progress) => disk.deleteSnapshot(text(request, "guid"), { device, progress })),
      ],
      ["resize", (request) => disk.grow(Number(request["sectors"]), { device })],
    ]);
  }
}
