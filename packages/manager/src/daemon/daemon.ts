/**
 * One volume being served: storage held open, volume open, NBD on one socket, commands on another, perhaps an attachment.
 *
 *     control socket (the lock on the name) ▸ storage (the lock on the device) ▸ volume ▸ NBD socket ▸ attachment ▸ state.json
 *
 * Starting goes from left to right and stopping from right to left; whatever fails on the way, what was made before is
 * undone in reverse order. The volume is closed cleanly before its storage is released.
 */
import { chmod, chown, mkdir, readFile, writeFile } from "node:fs/promises";
import { errorMessage } from "@vdo/base";
import { type Attachment, attach, detach, nbdUri, useOf } from "../attach/attachment.ts";
import { checkThreadConfiguration } from "../commands/checks.ts";
import type { VolumeSettings } from "../config/volume-settings.ts";
import { ControlServer } from "../control/server.ts";
import type { RecoveryProgress, VolumeHandle, VolumeStatistics } from "../engine.ts";
import { advised, commandError, placeError } from "../errors.ts";
import type { Environment } from "../host/environment.ts";
import { pause } from "../host/lock.ts";
import type { Paths, VolumePaths } from "../host/paths.ts";
import { type OpenStorageOptions, openStorage, type Storage } from "../host/storage.ts";
import { StatusPage, type StatusPageState, startStatusPage } from "../status-page/status-page.ts";
import { type AttachChoice, type StatusPageChoice, uuidText, type WritePolicy } from "../values.ts";
import type { ExportServer } from "./exporter.ts";
import { runFullHook } from "./full-hook.ts";
import { FullnessMonitor } from "./fullness.ts";
import { withoutHeader } from "./headerless-volume.ts";
import { type ClientActivity, MeasuredDevice } from "./measured-device.ts";
import { daemonOperations } from "./operations.ts";
import { type DaemonState, readState, removeRuntimeFiles, runningVolumes, writeState } from "./state.ts";
import { effectivePolicy, PolicyDevice } from "./write-policy.ts";

/** Time for clients that are just leaving to be gone, before their connections count as use; in steps of 100 ms. */
const LEAVING_STEPS = 10;

/**
 * Freed blocks are discarded in groups of 64 KiB: the unit of RBD and of qcow2, which pass over smaller ones, and enough for
 * files and devices, where a program is run for each run of groups.
 */
const DISCARD_GROUP_BLOCKS = 16;

export type LogText = (level: "info" | "warning" | "error", text: string) => void;

export type DaemonStage = "starting" | "ready" | "stopping" | "stopped";

export interface DaemonOptions {
  settings: VolumeSettings;
  readOnly: boolean;
  /** Overrides the choice stored in the settings. */
  attach?: AttachChoice | undefined;
  /** Group that owns the sockets, by name. */
  socketGroup?: string | undefined;
  /** Overrides the choice stored in the settings. */
  statusPage?: StatusPageChoice | undefined;
  /** Where the switches of the status page are stored. */
  configurationFile: string;
  /** An inherited listening socket to serve on besides the volume's own. */
  descriptor?: number | undefined;
  environment: Environment;
  paths: Paths;
  log: LogText;
  /** Told when the volume is being stopped. */
  onStopping?: () => void;
  /** Told as the volume is recovered. */
  onRecovery?: (progress: RecoveryProgress) => void;
  /** File descriptor that receives the output of helper programs. */
  logDescriptor: number;
}

export class Daemon {
  readonly #options: DaemonOptions;
  readonly #files: VolumePaths;
  readonly #undo: (() => Promise<void>)[] = [];
  #volume!: VolumeHandle;
  #storage!: Storage;
  #policy!: PolicyDevice;
  #fullness: FullnessMonitor | undefined;
  #measured: MeasuredDevice | undefined;
  #statusPage: StatusPage | { failure: string } | undefined;
  #exports!: ExportServer;
  #state!: DaemonState;
  #recovery: RecoveryProgress | null = null;
  #stage: DaemonStage = "starting";
  #stopped!: () => void;
  /** Resolves when the volume is closed and everything is released. */
  readonly ended: Promise<void>;

  private constructor(options: DaemonOptions) {
    this.#options = options;
    this.#files = options.paths.volume(options.settings.name);
    this.ended = new Promise((resolve) => {
      this.#stopped = resolve;
    });
  }

  /** Starts serving; resolves when clients can connect. Throws the first failure, with everything undone. */
  static async start(options: DaemonOptions): Promise<Daemon> {
    const daemon = new Daemon(options);
    try {
      await daemon.#start();
      return daemon;
    } catch (error) {
      await daemon.#unwind();
      throw error;
    }
  }

  get name(): string {
    return this.#options.settings.name;
  }

  get settings(): VolumeSettings {
    return this.#options.settings;
  }

  /** How the volume is to be attached: as asked, as stored, or what suits the user. */
  get choice(): AttachChoice {
    const { attach: asked, settings, environment } = this.#options;
    return asked ?? settings.attach ?? (environment.uid === 0 ? "auto" : "none");
  }

  get volume(): VolumeHandle {
    return this.#volume;
  }

  get state(): DaemonState {
    return this.#state;
  }

  get stage(): DaemonStage {
    return this.#stage;
  }

  /** How far the recovery of the volume has come; null when there is none. */
  get recovery(): RecoveryProgress | null {
    return this.#recovery;
  }

  /** The last phase, of the slabs, goes on while the volume is served. */
  #noteRecovery(progress: RecoveryProgress): void {
    this.#recovery = progress.phase === "slabs" && progress.done >= progress.of ? null : progress;
    this.#options.onRecovery?.(progress);
  }

  get environment(): Environment {
    return this.#options.environment;
  }

  get storage(): Storage {
    return this.#storage;
  }

  /** Acknowledges writes as `policy` says, from now on. */
  async setWritePolicy(policy: WritePolicy): Promise<void> {
    const { info, device } = this.#storage;
    this.#options.settings.writePolicy = policy;
    this.#policy.isSync =
      (await effectivePolicy(policy, { ...info, hasCache: device.hasCache }, this.environment)) === "sync";
  }

  /** Statistics of the volume, with the instance number that this daemon has. */
  statistics(): VolumeStatistics {
    return { ...this.#volume.statistics(), instance: this.#state.instance };
  }

  /** That the volume is nearly full; undefined when it is not. */
  get warning(): string | undefined {
    return this.#fullness?.warning;
  }

  /** What the clients of the volume asked for since it was started; undefined until they can ask. */
  get activity(): ClientActivity | undefined {
    return this.#measured?.activity;
  }

  /** Client connections open now. */
  get clients(): number {
    return this.#exports.connections();
  }

  get isServedReadOnly(): boolean {
    return this.#options.readOnly;
  }

  /** Where the status page is, or why there is none; null when none was asked for. */
  get statusPage(): StatusPageState | null {
    const page = this.#statusPage;
    if (page === undefined) return null;
    return page instanceof StatusPage ? { url: page.url } : page;
  }

  async #start(): Promise<void> {
    const { paths, log } = this.#options;
    checkThreadConfiguration(this.settings);
    await paths.prepare();
    await this.#listenForCommands();
    await this.#cleanUpAfterTheDead();
    await writeFile(this.#files.pidFile, `${process.pid}\n`);
    await this.#showStatus();
    const storage = await this.#openStorage();
    this.#storage = storage;
    const instance = await freeInstance(paths);
    await this.#openVolume(storage);
    await this.#listenForClients();
    const attachment = await this.#attach(this.choice);
    this.#state = this.#describe(storage, instance, attachment);
    await writeState(this.#files.stateFile, this.#state);
    this.#stage = "ready";
    const { settings, environment } = this.#options;
    this.#fullness = new FullnessMonitor({
      name: this.name,
      status: () => this.#volume.status(),
      clock: environment.clock,
      log,
      onFull: (percent) => {
        const { onFull } = settings;
        if (onFull !== undefined && onFull !== "") runFullHook(onFull, { name: this.name, percent }, environment, log);
      },
    });
    this.#fullness.start();
    this.#undo.push(async () => this.#fullness?.stop());
    log("info", `VDO instance ${instance} volume is ready at ${attachment.path}`);
  }

  async #listenForCommands(): Promise<void> {
    const { environment, paths } = this.#options;
    const { folder, controlSocket } = this.#files;
    await mkdir(folder, { recursive: true, mode: environment.uid === 0 ? 0o750 : 0o700 });
    const server = new ControlServer(daemonOperations(this));
    if (!(await server.listen(controlSocket, this.#socketMode(), environment.clock))) {
      throw commandError("VDO_WRONG_STATE", `VDO service ${this.name} already started`, this.name);
    }
    this.#undo.push(async () => {
      // The files go first: who finds no daemon on the socket must find no traces of it either.
      await removeRuntimeFiles(paths, this.name);
      server.close();
      await removeRuntimeFiles(paths, this.name);
    });
    await this.#giveToGroup(folder, controlSocket);
  }

  /** A daemon that was killed leaves its attachment, its NBD socket and its files. */
  async #cleanUpAfterTheDead(): Promise<void> {
    const { environment, paths, log } = this.#options;
    const left = await readState(this.#files.stateFile);
    if (left !== undefined) {
      log(
        "warning",
        `the last daemon of ${this.name} (process ${left.pid}) ended without stopping; cleaning up after it`,
      );
      await detach(left.attach, environment);
    }
    await removeRuntimeFiles(paths, this.name);
    await mkdir(this.#files.folder, { recursive: true, mode: environment.uid === 0 ? 0o750 : 0o700 });
  }

  /** The page comes before the volume: a recovery may be long, and is worth a look. */
  async #showStatus(): Promise<void> {
    const { settings, configurationFile, log, statusPage } = this.#options;
    const choice = statusPage ?? settings.statusPage ?? "disabled";
    if (choice === "disabled") return;
    const { tokenFile } = this.#files;
    const page = await startStatusPage({ daemon: this, choice, tokenFile, configurationFile, log });
    this.#statusPage = page;
    if (!(page instanceof StatusPage)) return;
    this.#undo.push(() => page.stop());
    log("info", `the status page is at ${page.url}; its token is in ${tokenFile}`);
  }

  async #openStorage(): Promise<Storage> {
    const { settings, readOnly, environment, paths, log } = this.#options;
    const path = settings.device;
    const onChange = connectionNotes(path, log);
    const discards = settings.discardStorage === "enabled";
    const host = { environment, paths, onChange, discards, inline: true };
    const storage = await openStorage({ path, readOnly, command: "start", ...host });
    this.#undo.push(() => storage.release());
    if (storage.device.hasCache === false) {
      log("info", `the server of ${path} offers no flush: each write that it answers is taken for durable`);
    }
    // A running volume never changes its geometry block.
    await storage.device.recognise?.(0);
    return storage;
  }

  async #openVolume({ device }: Storage): Promise<void> {
    const { settings, readOnly, environment, log } = this.#options;
    const options = {
      readOnly,
      compression: settings.compression === "enabled",
      deduplication: settings.deduplication === "enabled",
      blockMapCacheBlocks: Math.floor(settings.blockMapCacheSize / 4096),
      maximumAge: Math.min(16380, Math.max(1, settings.blockMapPeriod)),
      maxDiscardBlocks: Math.max(1, Math.floor(settings.maxDiscardSize / 4096)),
      logicalBlockSize: settings.logicalBlockSize === 512 ? (512 as const) : (4096 as const),
      ...(settings.discardStorage === "enabled" ? { discardGroupBlocks: DISCARD_GROUP_BLOCKS } : {}),
      log,
      onRecovery: (progress: RecoveryProgress) => this.#noteRecovery(progress),
    };
    this.#volume = await environment.engine.open(device, options).catch((error: unknown) => {
      throw placeError(error, settings.device);
    });
    if (!this.#volume.status().recovering) this.#recovery = null;
    this.#undo.push(() => this.#volume.close());
  }

  async #listenForClients(): Promise<void> {
    const { environment, descriptor, settings, log } = this.#options;
    const { nbdSocket } = this.#files;
    this.#policy = new PolicyDevice(withoutHeader(this.#volume, settings.skipHeader ?? 0), false);
    await this.setWritePolicy(settings.writePolicy);
    if (settings.writePolicy === "async-unsafe") log("info", "write policy async-unsafe is carried out as async");
    this.#measured = new MeasuredDevice(this.#policy, environment.clock.now);
    this.#exports = await environment.exporter({
      name: this.name,
      device: this.#measured,
      socketPath: nbdSocket,
      descriptor,
      log,
    });
    this.#undo.push(() => this.#exports.close());
    await chmod(nbdSocket, this.#socketMode());
    await this.#giveToGroup(nbdSocket);
  }

  async #attach(choice: AttachChoice): Promise<Attachment> {
    const { settings, readOnly, environment, paths, logDescriptor, log } = this.#options;
    const blockSize = settings.logicalBlockSize;
    const request = { name: this.name, choice, readOnly, blockSize, environment, paths, log: logDescriptor };
    const attachment = await attach(request);
    this.#undo.push(() => detach(attachment, environment));
    log("info", `attached as ${attachment.kind}: ${attachment.reason}`);
    return attachment;
  }

  #describe({ info }: Storage, instance: number, attachment: Attachment): DaemonState {
    const { environment, readOnly } = this.#options;
    return {
      name: this.name,
      pid: process.pid,
      instance,
      device: info.path,
      uuid: uuidText(this.#volume.config().uuid),
      nbdSocket: this.#files.nbdSocket,
      ctlSocket: this.#files.controlSocket,
      startedAt: new Date(environment.clock.wallMicroseconds() / 1000).toISOString(),
      version: environment.version,
      readOnly,
      attach: attachment,
    };
  }

  #socketMode(): number {
    return this.#options.environment.uid === 0 || this.#options.socketGroup !== undefined ? 0o660 : 0o600;
  }

  async #giveToGroup(...files: string[]): Promise<void> {
    const { socketGroup, environment } = this.#options;
    if (socketGroup === undefined) return;
    const groups = await readFile(`${environment.systemRoot}/etc/group`, "utf8").catch(() => "");
    const line = groups.split("\n").find((entry) => entry.startsWith(`${socketGroup}:`));
    const group = Number(line?.split(":")[2] ?? Number.NaN);
    if (!Number.isInteger(group))
      throw commandError(
        "VDO_USER",
        advised(`group ${socketGroup} not found`, "--socketGroup takes the name of a group of /etc/group."),
        socketGroup,
      );
    for (const file of files) await chown(file, environment.uid, group);
  }

  /**
   * Stops: refuses while the volume is in use (`VDO_WRONG_STATE`), then closes clients, volume and storage. `force` cuts
   * clients off and unmounts; what another block device holds is in use even then. A second call waits for the first.
   */
  async stop({ force }: { force: boolean }): Promise<void> {
    if (this.#stage === "stopping" || this.#stage === "stopped") return this.ended;
    if (this.#stage === "starting") throw commandError("VDO_WRONG_STATE", `VDO ${this.name} is starting`, this.name);
    this.#stage = "stopping";
    try {
      await this.#release(force);
    } catch (error) {
      this.#stage = "ready";
      throw error;
    }
    this.#options.log("info", `stopping VDO ${this.name}`);
    this.#options.onStopping?.();
    const failures = await this.#unwind();
    this.#stage = "stopped";
    this.#stopped();
    if (failures.length > 0) throw failures[0];
  }

  async #release(force: boolean): Promise<void> {
    const { environment } = this.#options;
    const { attach: attachment } = this.#state;
    if (attachment.kind === "none") {
      for (let step = 0; this.#exports.connections() > 0 && step < LEAVING_STEPS && !force; step++) {
        await pause(100, environment.clock);
      }
      const clients = this.#exports.connections();
      const next = `Clients are connected (${clients}): disconnect them, or cut them off with --force.`;
      if (clients > 0 && !force) throw this.#inUse("cannot stop VDO volume NAME: in use", next);
      return;
    }
    const use = await useOf(attachment, environment);
    const device = attachment.device ?? attachment.path;
    if (use === "held")
      throw this.#inUse("cannot stop VDO volume NAME: in use", `Something holds ${device}: lsblk shows what.`);
    if (use === "mounted" && !force) {
      throw this.#inUse("cannot stop VDO volume with mounts NAME", `Unmount it (umount ${device}), or use --force.`);
    }
    if (use === "mounted") await environment.programs.run("umount", ["-f", device]);
    try {
      await this.detach();
    } catch (error) {
      const text = `cannot stop VDO service ${this.name}: ${errorMessage(error)}`;
      throw commandError("VDO_SYSTEM", text, this.name, error);
    }
  }

  #inUse(text: string, nextStep: string): Error {
    return commandError("VDO_WRONG_STATE", advised(text.replace("NAME", this.name), nextStep), this.name);
  }

  /** Undoes the attachment; the volume goes on being served on its socket. */
  async detach(): Promise<void> {
    await detach(this.#state.attach, this.#options.environment);
    await this.#replaceAttachment({ kind: "none", path: nbdUri(this.name, this.#files.nbdSocket), reason: "detached" });
  }

  /** Attaches a volume that is not attached. */
  async attach(choice: AttachChoice): Promise<Attachment> {
    if (this.#state.attach.kind !== "none") {
      throw commandError("VDO_WRONG_STATE", `VDO ${this.name} is attached already`, this.name);
    }
    await this.#replaceAttachment(await this.#attach(choice));
    return this.#state.attach;
  }

  async #replaceAttachment(attachment: Attachment): Promise<void> {
    this.#state = { ...this.#state, attach: attachment };
    await writeState(this.#files.stateFile, this.#state);
  }

  async #unwind(): Promise<unknown[]> {
    const failures: unknown[] = [];
    for (let step = this.#undo.pop(); step !== undefined; step = this.#undo.pop()) {
      try {
        await step();
      } catch (error) {
        this.#options.log("error", errorMessage(error));
        failures.push(error);
      }
    }
    return failures;
  }
}

/** Tells the log of the connection to an NBD server. */
function connectionNotes(path: string, log: LogText): OpenStorageOptions["onChange"] {
  return ({ state, error }) => {
    if (state === "connected") log("info", `connected again to ${path}; unflushed writes were written again`);
    else if (state === "failed") log("error", `gave up ${path}: ${errorMessage(error)}`);
    else log("warning", `lost ${path}: ${errorMessage(error)}. Requests wait for it to come back`);
  };
}

/** The smallest number from 0 that no running daemon of this runtime folder has. */
async function freeInstance(paths: Paths): Promise<number> {
  const used = new Set<number>();
  for (const name of await runningVolumes(paths)) {
    const state = await readState(paths.volume(name).stateFile);
    if (state !== undefined) used.add(state.instance);
  }
  let instance = 0;
  while (used.has(instance)) instance++;
  return instance;
}
