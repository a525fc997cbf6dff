/**
 * A machine in a temporary folder, for tests: configuration, runtime folder, logs and devices below it, recorded programs,
 * volumes held in plain memory format, and daemons that run in the test's own process.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "@vdo/base";
import { Configuration } from "../config/configuration.ts";
import { Daemon } from "../daemon/daemon.ts";
import type { ExportOptions, ExportServer } from "../daemon/exporter.ts";
import type { Launcher } from "../daemon/launcher.ts";
import { nbdExporter } from "../daemon/nbd-exporter.ts";
import { CommandLog } from "../host/command-log.ts";
import type { Environment } from "../host/environment.ts";
import { Paths } from "../host/paths.ts";
import type { ProgramResult, Programs } from "../host/programs.ts";
import { Manager } from "../manager.ts";
import { ThinServer } from "../thin/thin-server.ts";
import { toyEngine } from "./toy-engine.ts";

/** Answers of a stand-in program. */
export type FakeProgram = (args: readonly string[]) => Partial<ProgramResult>;

export class TestMachine {
  readonly folder: string;
  readonly environment: Environment;
  readonly paths: Paths;
  /** What the commands wrote on standard output and standard error. */
  out = "";
  err = "";
  /** Programs that were run, one line each. */
  readonly ran: string[] = [];
  /** Programs that are found; empty at first. */
  readonly programs = new Map<string, FakeProgram>();
  /** Daemons that were started, by name. */
  readonly daemons = new Map<string, Daemon>();
  /** Daemons of thin pools that were started. */
  readonly pools = new Set<ThinServer>();
  /** Connections that each export has besides the real ones. */
  connections = 0;
  memory: number | undefined = 64 * 1024 ** 3;

  private constructor(folder: string, uid: number) {
    this.folder = folder;
    const variables = {
      VDO_CONF_DIR: join(folder, "etc"),
      VDO_RUN_DIR: join(folder, "run"),
      VDO_LOG_DIR: join(folder, "log"),
      VDO_DEV_DIR: join(folder, "dev/vdo"),
    };
    this.environment = {
      variables,
      uid,
      home: folder,
      temporaryFolder: folder,
      platform: process.platform,
      hostname: "host1",
      version: "1.2.3",
      clock: systemClock,
      programs: this.#fakePrograms(),
      engine: toyEngine,
      exporter: (options) => this.#countedExport(options),
      launcher: this.#inProcessLauncher(),
      poolLauncher: async ({ settings, socket, environment }) => {
        const server = await ThinServer.start({ settings, environment, ...(socket === undefined ? {} : { socket }) });
        this.pools.add(server);
        void server.ended.then(() => this.pools.delete(server));
        return { pid: process.pid, uri: server.uri };
      },
      systemRoot: folder,
      memoryAvailable: async () => this.memory,
    };
    this.paths = new Paths(this.environment);
  }

  /** A machine whose user is the one that runs the tests, or pretends to be `uid`. */
  static async make(uid = process.getuid?.() ?? 0): Promise<TestMachine> {
    return new TestMachine(await mkdtemp(join(tmpdir(), "vdo-machine-")), uid);
  }

  /** The configuration file of the machine. */
  get configurationFile(): string {
    return this.paths.configuration(undefined);
  }

  /** A manager that writes to {@link out} and {@link err}. */
  manager({ verbose = false } = {}): Manager {
    return new Manager({ environment: this.environment, log: this.log(verbose) });
  }

  log(verbose = false): CommandLog {
    return new CommandLog({
      program: "vdo",
      out: (text) => {
        this.out += text;
      },
      err: (text) => {
        this.err += text;
      },
      verbose,
      wallMicroseconds: systemClock.wallMicroseconds,
    });
  }

  /** Output since the last call. */
  takeOutput(): string {
    const text = this.out + this.err;
    this.out = "";
    this.err = "";
    return text;
  }

  /** Ends every daemon and deletes the folder. */
  async remove(): Promise<void> {
    for (const daemon of this.daemons.values()) await daemon.stop({ force: true }).catch(() => undefined);
    for (const pool of this.pools) await pool.stop().catch(() => undefined);
    await rm(this.folder, { recursive: true, force: true });
  }

  #fakePrograms(): Programs {
    const run = async (program: string, args: readonly string[]): Promise<ProgramResult> => {
      this.ran.push([program, ...args].join(" "));
      const fake = this.programs.get(program);
      if (fake === undefined) return { status: -1, stdout: "", stderr: `${program}: not found` };
      return { status: 0, stdout: "", stderr: "", ...fake(args) };
    };
    return {
      find: (name) => (this.programs.has(name) ? `/usr/bin/${name}` : undefined),
      run,
      background: (program, args) => {
        const ended = run(program, args).then(({ status }) =>
          status === 0 ? new Promise<number>(() => undefined) : status,
        );
        return { pid: 1, ended };
      },
    };
  }

  async #countedExport(options: ExportOptions): Promise<ExportServer> {
    const real = await nbdExporter(options);
    return { connections: () => this.connections + real.connections(), close: () => real.close() };
  }

  #inProcessLauncher(): Launcher {
    return async (request) => {
      const configuration = await Configuration.load(request.configurationFile);
      const daemon = await Daemon.start({
        settings: configuration.get(request.name),
        readOnly: request.readOnly,
        attach: request.attach,
        socketGroup: request.socketGroup,
        statusPage: request.statusPage,
        configurationFile: request.configurationFile,
        environment: this.environment,
        paths: this.paths,
        log: () => undefined,
        logDescriptor: 2,
      });
      this.daemons.set(request.name, daemon);
      void daemon.ended.then(() => this.daemons.delete(request.name));
      return { ...daemon.state, mode: daemon.volume.status().mode };
    };
  }
}
