/**
 * A running thin pool: every thin device is an export of one NBD socket, by its id, and messages reach the pool on a control
 * socket. Whoever holds the control socket has the pool; commands find it by the path of the metadata.
 */
import { createHash } from "node:crypto";
import { existsSync, realpathSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { errorMessage } from "@vdo/base";
import { type BlockDevice, FileDevice } from "@vdo/block-device";
import { NbdClient, NbdServer } from "@vdo/nbd";
import { decodeSuperblock, parseMessage, ThinPool, type ThinVolume } from "@vdo/thin";
import { askIfRunning, controlRequest } from "../control/client.ts";
import type { ControlRequest } from "../control/protocol.ts";
import { type ControlHandler, ControlServer } from "../control/server.ts";
import { commandError } from "../errors.ts";
import type { ClientEnvironment } from "../host/environment.ts";
import { Paths } from "../host/paths.ts";
import { isNbdUri } from "../host/storage-location.ts";

/** Time that requests in flight have to be answered when the pool stops, in milliseconds. */
const GRACE_MILLISECONDS = 30_000;

export interface ThinServeOptions {
  /** Files, block devices or NBD URIs. */
  metadata: string;
  data: string;
  /** Virtual size of the devices, in sectors: pools do not store it. */
  sectors: number;
  environment: ClientEnvironment;
  /** NBD socket; default: one in the runtime folder. */
  socket?: string;
  onText?(text: string): void;
}

/** Sockets of the pool whose metadata is `metadata`. */
export function thinSockets(
  environment: ClientEnvironment,
  metadata: string,
): { folder: string; control: string; nbd: string } {
  const folder = new Paths(environment).shortFolder;
  const path = existsSync(metadata) ? realpathSync(metadata) : metadata;
  const hash = createHash("sha256").update(path).digest("hex").slice(0, 16);
  return { folder, control: join(folder, `t${hash}.ctl`), nbd: join(folder, `t${hash}.nbd`) };
}

/** Asks the running pool. Throws `VDO_WRONG_STATE` when it does not run. */
export function askThin(
  environment: ClientEnvironment,
  metadata: string,
  op: string,
  args: Readonly<Record<string, unknown>> = {},
): Promise<unknown> {
  return controlRequest(thinSockets(environment, metadata).control, op, args);
}

/** Status line of the running pool; undefined when it does not run. */
export async function thinStatus(environment: ClientEnvironment, metadata: string): Promise<string | undefined> {
  return (await askIfRunning(thinSockets(environment, metadata).control, "status")) as string | undefined;
}

async function openDevice(path: string): Promise<BlockDevice> {
  return isNbdUri(path) ? NbdClient.connect(path) : FileDevice.open({ path });
}

export class ThinServer {
  /** Of the export of device ID, with `ID` in its place. */
  readonly uri: string;
  /** Resolves when the pool was closed; rejects when that failed. */
  readonly ended: Promise<void>;
  readonly #pool: ThinPool;
  readonly #devices: readonly BlockDevice[];
  readonly #options: ThinServeOptions;
  readonly #nbd: NbdServer;
  readonly #control: ControlServer;
  readonly #volumes = new Map<number, ThinVolume>();
  #stopping: Promise<void> | undefined;
  #messages: Promise<unknown> = Promise.resolve();
  #end: { resolve: () => void; reject: (error: unknown) => void } = { resolve: () => {}, reject: () => {} };

  private constructor(pool: ThinPool, devices: readonly BlockDevice[], options: ThinServeOptions, socket: string) {
    this.#pool = pool;
    this.#devices = devices;
    this.#options = options;
    this.uri = `nbd+unix:///ID?socket=${encodeURI(socket)}`;
    this.#nbd = new NbdServer({ onError: (error) => options.onText?.(errorMessage(error)) });
    this.#control = new ControlServer(
      new Map<string, ControlHandler>([
        ["status", () => this.#pool.status()],
        ["stop", () => this.stop()],
        ["message", (request: ControlRequest) => this.message(String(request["text"] ?? ""))],
      ]),
    );
    this.ended = new Promise((resolve, reject) => {
      this.#end = { resolve, reject };
    });
  }

  /** Throws `VDO_WRONG_STATE` when the pool runs already, and what opening it throws. */
  static async start(options: ThinServeOptions): Promise<ThinServer> {
    const { environment, metadata, data } = options;
    await new Paths(environment).prepare();
    const sockets = thinSockets(environment, metadata);
    await mkdir(sockets.folder, { recursive: true });
    // The control socket is the lock, so it comes before the devices; until they are open it answers with an error.
    const early = new ControlServer(new Map());
    const isRunning = (): Error =>
      commandError("VDO_WRONG_STATE", `the pool of ${metadata} is running already`, metadata);
    if (!(await early.listen(sockets.control, 0o600, environment.clock))) throw isRunning();
    const devices: BlockDevice[] = [];
    try {
      devices.push(await openDevice(metadata), await openDevice(data));
      const [metadataDevice, dataDevice] = devices as [BlockDevice, BlockDevice];
      const block = new Uint8Array(4096);
      await metadataDevice.read(0, block);
      const pool = await ThinPool.open({
        metadata: metadataDevice,
        data: dataDevice,
        blockSectors: decodeSuperblock(block).dataBlockSectors,
        onEvent: ({ text }) => options.onText?.(text),
      });
      early.close();
      const socket = options.socket ?? sockets.nbd;
      const server = new ThinServer(pool, devices, options, socket);
      if (!(await server.#control.listen(sockets.control, 0o600, environment.clock))) throw isRunning();
      for (const { id } of await pool.devices()) await server.#offer(id);
      await server.#nbd.listen({ path: socket });
      return server;
    } catch (error) {
      early.close();
      for (const device of devices) await device.close();
      throw error;
    }
  }

  async #offer(id: number): Promise<void> {
    const volume = await this.#pool.volume({ id, sectors: this.#options.sectors });
    this.#volumes.set(id, volume);
    this.#nbd.addExport({ name: String(id), device: volume, description: `thin device ${id}` });
  }

  /** A message to the pool, one at a time; exports come and go with their devices. */
  message(text: string): Promise<void> {
    const turn = this.#messages.then(() => this.#message(text));
    this.#messages = turn.catch(() => {});
    return turn;
  }

  async #message(text: string): Promise<void> {
    const message = parseMessage(text);
    if (message.verb === "delete") {
      await this.#nbd.removeExport(String(message.id));
      await this.#volumes.get(message.id)?.close();
      this.#volumes.delete(message.id);
    }
    await this.#pool.message(text);
    if (message.verb === "create_thin" || message.verb === "create_snap") await this.#offer(message.id);
  }

  /** Ends the exports, then commits and closes the pool. */
  stop(): Promise<void> {
    this.#stopping ??= (async () => {
      try {
        await this.#nbd.close({ graceMs: GRACE_MILLISECONDS });
        await this.#messages;
        for (const volume of this.#volumes.values()) await volume.close();
        await this.#pool.close();
        for (const device of this.#devices) await device.close();
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
}
