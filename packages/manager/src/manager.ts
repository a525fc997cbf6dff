/**
 * The library behind the `vdo` command: one method per subcommand. It keeps no state of its own; what it knows is in the
 * configuration file, the runtime folder and the daemons.
 */
import { type CommandContext, type Selection, selectedNames } from "./commands/context.ts";
import { type CopyOptions, checkCopy, fillVolume } from "./commands/copy.ts";
import { type CreateOptions, create, type GivenSettings } from "./commands/create.ts";
import { type EstimateOptions, type EstimateReport, estimate } from "./commands/estimate.ts";
import { type ExportVolumeOptions, exportVolume } from "./commands/export.ts";
import { type GrowLogicalOptions, type GrowPhysicalOptions, growLogical, growPhysical } from "./commands/grow.ts";
import { type ImportOptions, importVolume } from "./commands/import.ts";
import { finishInterrupted } from "./commands/interrupted.ts";
import { memoryLine } from "./commands/memory.ts";
import { changeWritePolicy, checkModification, modify, setActivated } from "./commands/modify.ts";
import { audit, markForRebuild, markReadOnly, type StorageChoice, type ToolOutput } from "./commands/offline.ts";
import { rebuildAtStart, requireActivated, type StartOptions, start } from "./commands/start.ts";
import { type StatusOptions, statusText } from "./commands/status.ts";
import { remove, type StopOptions, stop } from "./commands/stop.ts";
import { setCompression, setDeduplication } from "./commands/switches.ts";
import { changeConfiguration } from "./config/change.ts";
import { Configuration } from "./config/configuration.ts";
import { runningVolumes } from "./daemon/state.ts";
import { commandError } from "./errors.ts";
import type { CommandLog } from "./host/command-log.ts";
import type { Environment } from "./host/environment.ts";
import { Paths } from "./host/paths.ts";
import { OfflineTools } from "./offline-tools.ts";
import { openSource } from "./rescue/open-source.ts";
import type { WritePolicy } from "./values.ts";

export interface ManagerOptions {
  environment: Environment;
  log: CommandLog;
  /** Value of `--confFile`. */
  configurationFile?: string | undefined;
}

/**
 * Runs volumes on this machine. Every method throws `VdoError`s whose exit status {@link exitStatus} tells.
 *
 * @example
 * const manager = new Manager({ environment, log });
 * await manager.create({ name: "vdo0", device: "/srv/vdo0.img", settings: {}, force: false, physicalSize: 10 * 1024 ** 3 });
 */
export class Manager {
  readonly #context: CommandContext;

  constructor({ environment, log, configurationFile }: ManagerOptions) {
    const paths = new Paths(environment);
    this.#context = { environment, paths, log, configurationFile: paths.configuration(configurationFile) };
  }

  /** Formats storage and starts a volume on it. */
  create(options: CreateOptions): Promise<void> {
    return this.#change((configuration) => create(this.#context, configuration, options));
  }

  /** Takes over a formatted volume and starts it. */
  import(options: ImportOptions): Promise<void> {
    return this.#change((configuration) => importVolume(this.#context, configuration, options));
  }

  /**
   * Has a daemon serve each volume. The configuration is locked only while interrupted operations are finished: a start changes
   * nothing in it, and with a recovery it may take longer than other commands can wait.
   */
  async start(selection: Selection, options: StartOptions): Promise<void> {
    let configuration: Configuration | undefined;
    await this.#forEach(selection, async (read) => {
      configuration = read;
    });
    if (configuration === undefined) return;
    const read = configuration;
    const end = await this.#tryEach(selectedNames(read, selection), (name) =>
      start(this.#context, read, name, options),
    );
    end();
  }

  /** Closes each volume cleanly and ends its daemon. */
  stop(selection: Selection, options: StopOptions): Promise<void> {
    return this.#forEach(selection, (configuration, name) => stop(this.#context, configuration, name, options));
  }

  /** Stops each volume and forgets it. */
  remove(selection: Selection, options: StopOptions): Promise<void> {
    return this.#forEach(selection, (configuration, name) => remove(this.#context, configuration, name, options));
  }

  setCompression(selection: Selection, on: boolean): Promise<void> {
    return this.#forEach(selection, (configuration, name) => setCompression(this.#context, configuration, name, on));
  }

  setDeduplication(selection: Selection, on: boolean): Promise<void> {
    return this.#forEach(selection, (configuration, name) => setDeduplication(this.#context, configuration, name, on));
  }

  /** Refuses: the conversion of a volume for LVM is left to the kernel's tools. Throws `VDO_USER`. */
  async convert(name: string): Promise<void> {
    selectedNames(await this.#read(), { name });
    throw commandError("VDO_USER", "convert is not supported", name);
  }

  /** Makes a running volume larger for its users. */
  growLogical(options: GrowLogicalOptions): Promise<void> {
    return this.#forEach(options, (configuration) => growLogical(this.#context, configuration, options));
  }

  /** Has a running volume use what its storage has become larger by. */
  growPhysical(options: GrowPhysicalOptions): Promise<void> {
    return this.#forEach(options, (configuration) => growPhysical(this.#context, configuration, options));
  }

  /** Changes stored settings of each volume. */
  async modify(selection: Selection, given: GivenSettings): Promise<void> {
    checkModification(selection, given);
    await this.#forEach(selection, (configuration, name) => modify(this.#context, configuration, name, given));
  }

  setActivated(selection: Selection, on: boolean): Promise<void> {
    return this.#forEach(selection, (configuration, name) => setActivated(this.#context, configuration, name, on));
  }

  /** Sets when each volume acknowledges writes. */
  changeWritePolicy(selection: Selection, policy: WritePolicy): Promise<void> {
    return this.#forEach(selection, (configuration, name) =>
      changeWritePolicy(this.#context, configuration, name, policy),
    );
  }

  /** Names of the running volumes, with `all` those of the configuration too; sorted bytewise. */
  async list({ all }: { all: boolean }): Promise<string[]> {
    const running = await runningVolumes(this.#context.paths);
    if (!all) return running;
    return [...new Set([...running, ...(await this.#read()).names()])].sort();
  }

  /** The YAML text of `vdo status`. */
  async status(selection: Selection, { pending = false }: Partial<StatusOptions> = {}): Promise<string> {
    const configuration = await this.#read();
    return statusText(this.#context, configuration, { names: selectedNames(configuration, selection), pending });
  }

  /** Checks the metadata of a stopped volume; resolves with the status of vdoaudit. */
  async audit(storage: StorageChoice, options: { verbose: boolean; output: ToolOutput }): Promise<number> {
    return audit(this.#context, { device: await this.#device(storage), ...options });
  }

  /** Reports what a rebuild would lose and asks for it; resolves with the status of vdoforcerebuild. */
  async forceRebuild(storage: StorageChoice, options: { dryRun: boolean; output: ToolOutput }): Promise<number> {
    return markForRebuild(this.#context, { device: await this.#device(storage), ...options });
  }

  /** Puts a stopped volume into read-only mode; resolves with the status of vdoreadonly. */
  async setReadOnly(storage: StorageChoice, options: { output: ToolOutput }): Promise<number> {
    return markReadOnly(this.#context, { device: await this.#device(storage), ...options });
  }

  /**
   * Makes a new volume with the content of another disk. Throws `VDO_USER` for a source that cannot be read or is larger than
   * the volume, before anything is written.
   */
  async copy(options: CopyOptions): Promise<void> {
    await this.#read();
    const source = await openSource(options.from, "copy");
    try {
      await this.create(await checkCopy(options, source));
      await fillVolume(this.#context, options, source);
    } finally {
      await source.close();
    }
  }

  /** What a volume would save on files, folders and devices. */
  estimate(options: EstimateOptions): Promise<EstimateReport> {
    return estimate(this.#context, options);
  }

  /** Writes what a stopped volume holds to an image; resolves with 1 when parts could not be read, else 0. */
  async exportVolume(storage: StorageChoice, options: ExportVolumeOptions): Promise<number> {
    return exportVolume(this.#context, await this.#device(storage), options);
  }

  /**
   * The tools that look at metadata, each with the storage that it looks at: {@link OfflineTools}. They are apart because they
   * know nothing of configured volumes but where their storage is.
   */
  tools(): OfflineTools {
    return new OfflineTools(this.#context, (storage) => this.#device(storage));
  }

  /** Path of the storage that is meant. Throws `VDO_USER` for a volume that is not configured. */
  storageOf(storage: StorageChoice): Promise<string> {
    return this.#device(storage);
  }

  async #device(storage: StorageChoice): Promise<string> {
    return "device" in storage ? storage.device : (await this.#read()).get(storage.name).device;
  }

  /** The configuration as YAML, without its header and with the key `filename`. */
  async printConfigFile(): Promise<string> {
    const path = this.#context.configurationFile;
    const configuration = await Configuration.load(path, { mustExist: true, command: "printConfigFile" });
    return configuration.render({ filename: path });
  }

  /** What a foreground start needs, checked as a start in the background would. */
  async prepareForeground(name: string, { forceRebuild = false } = {}): Promise<{ configurationFile: string }> {
    const configuration = await this.#read();
    selectedNames(configuration, { name });
    requireActivated(configuration.get(name));
    this.#context.log.announce(`Starting VDO ${name}`);
    this.#context.log.announce(`      ${memoryLine(this.#context, configuration.get(name))}`);
    if (forceRebuild) await rebuildAtStart(this.#context, configuration.get(name));
    return { configurationFile: this.#context.configurationFile };
  }

  #read(): Promise<Configuration> {
    return Configuration.load(this.#context.configurationFile);
  }

  #change<T>(action: (configuration: Configuration) => Promise<T>): Promise<T> {
    return changeConfiguration(this.#context, action);
  }

  /** Acts on each selected volume; what changed is saved, whether the actions succeed or not. */
  #forEach(selection: Selection, action: (configuration: Configuration, name: string) => Promise<void>): Promise<void> {
    return this.#change(async (configuration) => {
      const end = await this.#tryEach(selectedNames(configuration, selection), async (name) => {
        await finishInterrupted(this.#context, configuration, name);
        await action(configuration, name);
      });
      await configuration.save();
      end();
    });
  }

  /**
   * Acts on each volume; a failure of one does not stop the others. What is returned ends the command: it reports all failures
   * and throws the last one, which decides the status.
   */
  async #tryEach(names: readonly string[], action: (name: string) => Promise<void>): Promise<() => void> {
    const failures: unknown[] = [];
    for (const name of names) await action(name).catch((error: unknown) => failures.push(error));
    return () => {
      const last = failures.pop();
      for (const failure of failures) this.#context.log.error(failure);
      if (last !== undefined) throw last;
    };
  }
}
