/**
 * A running thin pool: every thin device is an export of one NBD socket, by its id, and commands reach the pool on a control
 * socket.
 *
 *     control socket (the lock on the pool) ▸ storage (the locks on the devices) ▸ pool ▸ thin devices ▸ NBD socket ▸ state file
 */
import { mkdir, rm, writeFile } from "node:fs/promises";
import { errorMessage } from "@vdo/base";
import { type BlockDevice, FileDevice } from "@vdo/block-device";
import { NbdClient, NbdServer } from "@vdo/nbd";
import { type PoolMode, parseMessage, type ThinVolume } from "@vdo/thin";
import type { ControlRequest } from "../control/protocol.ts";
import { type ControlHandler, ControlServer } from "../control/server.ts";
import { commandError } from "../errors.ts";
import type { Environment } from "../host/environment.ts";
import { Paths } from "../host/paths.ts";
import { isNbdUri } from "../host/storage-location.ts";
import { featuresOf, type PoolSettings, placeOf, sectorsOf, type ThinVolumeSettings } from "./pool-settings.ts";
import { keyOf, type OpenPool, openPool, poolSockets } from "./pool-storage.ts";

/** Time that requests in flight have to be answered when the pool stops, in milliseconds. */
const GRACE_MILLISECONDS = 30_000;

export interface ThinServeOptions {
  /** Where the pool lies, its features, and the sizes and origins of its devices, which pools do not store. */
  settings: PoolSettings;
  environment: Environment;
  /** NBD socket; default: one in the runtime folder. */
  socket?: string;
  onText?(text: string): void;
}

/** A thin device of a running pool. */
export interface ServedVolume {
  id: number;
  sectors: number;
  mappedBlocks: number;
  creationTime: number;
  snapshottedTime: number;
  transactionId: string;
}

/** What a running pool says of itself. */
export interface PoolStatus {
  pid: number;
  /** With `ID` in the place of the device's id. */
  uri: string;
  line: string;
  table: string;
  mode: PoolMode;
  heldRoot: number;
  blockBytes: number;
  clients: number;
  volumes: ServedVolume[];
}

interface Export {
  volume: ThinVolume;
  origin: BlockDevice | undefined;
}

export class ThinServer {
  /** Of the export of device ID, with `ID` in its place. */
  readonly uri: string;
  /** Resolves when the pool was closed; rejects when that failed. */
  readonly ended: Promise<void>;
  readonly #open: OpenPool;
  readonly #options: ThinServeOptions;
  readonly #nbd: NbdServer;
  readonly #control: ControlServer;
  readonly #exports = new Map<number, Export>();
  #settings: PoolSettings;
  #stopping: Promise<void> | undefined;
  #messages: Promise<unknown> = Promise.resolve();
  #end: { resolve: () => void; reject: (error: unknown) => void } = { resolve: () => {}, reject: () => {} };

  private constructor(open: OpenPool, options: ThinServeOptions, socket: string) {
    this.#open = open;
    this.#options = options;
    this.#settings = options.settings;
    this.uri = `nbd+unix:///ID?socket=${encodeURI(socket)}`;
    this.#nbd = new NbdServer({ onError: (error) => options.onText?.(errorMessage(error)) });
    this.#control = new ControlServer(this.#handlers());
    this.ended = new Promise((resolve, reject) => {
      this.#end = { resolve, reject };
    });
  }

  /** Throws `VDO_WRONG_STATE` when the pool runs already, and what opening it throws. */
  static async start(options: ThinServeOptions): Promise<ThinServer> {
    const { environment, settings } = options;
    await new Paths(environment).prepare();
    const place = placeOf(settings);
    const sockets = poolSockets(environment, place);
    await mkdir(sockets.folder, { recursive: true });
    // The control socket is the lock, so it comes before the devices; until they are open it answers with an error.
    const isStarting = (): never => {
      throw commandError("VDO_WRONG_STATE", `the pool of ${keyOf(place)} is just starting: try again`, keyOf(place));
    };
    const early = new ControlServer(new Map(["status", "stop", "message"].map((op) => [op, isStarting])));
    const isRunning = (): Error =>
      commandError("VDO_WRONG_STATE", `the pool of ${keyOf(place)} is running already`, keyOf(place));
    if (!(await early.listen(sockets.control, 0o600, environment.clock))) throw isRunning();
    let open: OpenPool | undefined;
    try {
      // What a killed daemon left.
      await rm(sockets.state, { force: true });
      open = await openPool({ settings, environment, onEvent: ({ text }) => options.onText?.(text) });
      const socket = options.socket ?? sockets.nbd;
      const server = new ThinServer(open, options, socket);
      for (const { id } of await open.pool.devices()) await server.#offer(id);
      await server.#nbd.listen({ path: socket });
      early.close();
      if (!(await server.#control.listen(sockets.control, 0o600, environment.clock))) throw isRunning();
      const state = { pid: process.pid, name: settings.name, pool: keyOf(place), uri: server.uri };
      await writeFile(sockets.state, `${JSON.stringify(state, null, 2)}\n`, { mode: 0o644 });
      return server;
    } catch (error) {
      early.close();
      await open?.close();
      throw error;
    }
  }

  #handlers(): Map<string, ControlHandler> {
    const text = (request: ControlRequest, name: string): string => String(request[name] ?? "");
    return new Map<string, ControlHandler>([
      ["status", () => this.status()],
      ["stop", () => this.stop()],
      [
        "message",
        (request) => this.message(text(request, "text"), request["volume"] as ThinVolumeSettings | undefined),
      ],
      ["reload", (request) => this.reload(request["settings"] as PoolSettings)],
    ]);
  }

  /** Opens the device with what the settings say of it, and offers it. */
  async #offer(id: number): Promise<void> {
    const { pool, storage } = this.#open;
    const path = this.#settings.volumes[String(id)]?.origin ?? "";
    const origin = path === "" ? undefined : await openOrigin(path);
    const sectors = sectorsOf(this.#settings, id) ?? (storage.data.blockCount * storage.data.blockSize) / 512;
    const whole = storage.data.blockSize / 512;
    const rounded = Math.ceil(sectors / whole) * whole;
    const volume = await pool.volume({ id, sectors: rounded, ...(origin === undefined ? {} : { origin }) });
    this.#exports.set(id, { volume, origin });
    this.#nbd.addExport({ name: String(id), device: volume, description: `thin device ${id}` });
  }

  async #withdraw(id: number): Promise<void> {
    await this.#nbd.removeExport(String(id));
    const { volume, origin } = this.#exports.get(id) ?? {};
    this.#exports.delete(id);
    await volume?.close();
    await origin?.close();
  }

  async status(): Promise<PoolStatus> {
    const { pool } = this.#open;
    const place = placeOf(this.#settings);
    const names =
      "device" in place
        ? { metadata: place.device, data: place.device }
        : { metadata: place.metadata, data: place.data };
    const volumes: ServedVolume[] = [];
    for (const { id, details } of pool.mode === "fail" ? [] : await pool.devices()) {
      const { volume } = this.#exports.get(id) ?? {};
      const sectors = volume === undefined ? 0 : volume.blockCount * (volume.blockSize / 512);
      volumes.push({ id, sectors, ...details, transactionId: String(details.transactionId) });
    }
    return {
      pid: process.pid,
      uri: this.uri,
      line: await pool.status(),
      table: pool.table(names),
      mode: pool.mode,
      heldRoot: pool.mode === "fail" ? 0 : (await pool.figures()).heldRoot,
      blockBytes: pool.blockBytes,
      clients: this.#nbd.connectionCount,
      volumes,
    };
  }

  /** A message to the pool, one at a time; exports come and go with their devices. `given`: of the new device. */
  message(text: string, given?: ThinVolumeSettings): Promise<void> {
    return this.#inTurn(() => this.#message(text, given));
  }

  #inTurn<T>(act: () => Promise<T>): Promise<T> {
    const turn = this.#messages.then(act);
    this.#messages = turn.catch(() => {});
    return turn;
  }

  async #message(text: string, given: ThinVolumeSettings | undefined): Promise<void> {
    const message = parseMessage(text);
    const { pool } = this.#open;
    if (message.verb === "delete") {
      const isThere = this.#exports.has(message.id);
      await this.#withdraw(message.id);
      try {
        await pool.message(text);
      } catch (error) {
        if (isThere) await this.#offer(message.id);
        throw error;
      }
      return;
    }
    await pool.message(text);
    if (message.verb !== "create_thin" && message.verb !== "create_snap") return;
    const inherited = message.verb === "create_snap" ? this.#settings.volumes[String(message.origin)] : undefined;
    const volume = given ?? inherited;
    const volumes = { ...this.#settings.volumes };
    if (volume !== undefined) volumes[String(message.id)] = volume;
    this.#settings = { ...this.#settings, volumes };
    await this.#offer(message.id);
  }

  /** Takes other features and the present sizes of the devices. Sizes of thin devices count for those opened later. */
  reload(settings: PoolSettings): Promise<void> {
    return this.#inTurn(async () => {
      const { pool, storage } = this.#open;
      await storage.refresh();
      await pool.reload({
        features: featuresOf(settings),
        lowWater: settings.lowWaterMark,
        noSpaceTimeoutMs: settings.noSpaceTimeout * 1000,
      });
      this.#settings = settings;
    });
  }

  /** Ends the exports, then commits and closes the pool. */
  stop(): Promise<void> {
    this.#stopping ??= (async () => {
      const { environment, settings } = this.#options;
      try {
        await this.#nbd.close({ graceMs: GRACE_MILLISECONDS });
        await this.#messages;
        for (const id of [...this.#exports.keys()]) await this.#withdraw(id);
        await this.#open.close();
        await rm(poolSockets(environment, placeOf(settings)).state, { force: true });
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

async function openOrigin(path: string): Promise<BlockDevice> {
  return isNbdUri(path)
    ? NbdClient.connect(path, { readOnly: true })
    : FileDevice.open({ path, readOnly: true, blockSize: 512 });
}
