/** The `vdo` command: parse, call the manager, print. */
import { realpathSync } from "node:fs";
import {
  type AttachChoice,
  announceLaunch,
  announceStatusPage,
  CommandLog,
  type Environment,
  exitStatus,
  kvdoEngine,
  type LogLevel,
  Manager,
  nbdExporter,
  Paths,
  type PoolSettings,
  readyLine,
  type StatusPageChoice,
  serve,
  servePool,
  spawnLauncher,
  spawnPoolLauncher,
  systemEnvironment,
  systemLog,
} from "@vdo/manager";
import type { Arguments } from "./arguments.ts";
import { parseCommandLine } from "./grammar.ts";
import { ParseEnd, type Streams } from "./parser.ts";
import { runPloop } from "./ploop/run.ts";
import type { Session } from "./subcommands.ts";
import { runThin } from "./thin/run.ts";

export interface RunOptions {
  /** What follows the program's name. */
  words: readonly string[];
  streams: Streams;
  environment: Environment;
}

/** The environment of the installed command: real volumes, real daemons. `script` is the path of the running program. */
export function commandEnvironment(version: string, script: string): Environment {
  const command = [process.execPath, ...process.execArgv, realpathSync(script)];
  const [launcher, poolLauncher] = [spawnLauncher(command), spawnPoolLauncher(command)];
  return systemEnvironment({ version, engine: kvdoEngine, exporter: nbdExporter, launcher, poolLauncher });
}

/** Runs one command line; resolves with the exit status. */
export async function runVdo({ words, streams, environment }: RunOptions): Promise<number> {
  if (words[0] === "ploop") return runPloop(words.slice(1), streams, environment);
  if (words[0] === "thin") return runThin(words.slice(1), streams, environment);
  if (words[0] === "_serve") return runDaemon(words.slice(1), environment);
  if (words[0] === "_servePool") return runPoolDaemon(words.slice(1), environment);
  let log = new CommandLog({ program: "vdo", ...streams, wallMicroseconds: environment.clock.wallMicroseconds });
  try {
    const { subcommand, args } = parseCommandLine(words, streams);
    log = new CommandLog({
      program: "vdo",
      ...streams,
      logFile: (args["logfile"] ?? undefined) as string | undefined,
      verbose: args["verbose"] === true,
      debug: args["debug"] === true,
      syslog: systemLog(environment),
      wallMicroseconds: environment.clock.wallMicroseconds,
    });
    log.info(`running vdo ${words.join(" ")}`);
    for (const { flags, ignored } of subcommand.options) {
      const given = args[flags[0].slice(2)];
      if (ignored !== undefined && given !== undefined && given !== null)
        log.warning(`${flags[0]} has no effect: ${ignored}`);
    }
    return (await subcommand.run(sessionOf(log, args, streams, environment), args)) ?? 0;
  } catch (error) {
    if (error instanceof ParseEnd) return error.status;
    log.error(error);
    return exitStatus(error);
  } finally {
    await log.finish();
  }
}

function sessionOf(log: CommandLog, args: Arguments, streams: Streams, environment: Environment): Session {
  const configurationFile = (args["confFile"] ?? undefined) as string | undefined;
  const manager = new Manager({ environment, log, configurationFile });
  return {
    manager,
    log,
    streams,
    version: environment.version,
    environment,
    serveHere: (name, given) => serveHere({ name, args: given, manager, log, environment }),
  };
}

interface Foreground {
  name: string;
  args: Arguments;
  manager: Manager;
  log: CommandLog;
  environment: Environment;
}

async function serveHere({ name, args, manager, log, environment }: Foreground): Promise<number> {
  const { configurationFile } = await manager.prepareForeground(name, {
    forceRebuild: args["forceRebuild"] === true,
  });
  const readOnly = args["readOnly"] === true;
  return serve({
    name,
    configurationFile,
    readOnly,
    attach: (args["attach"] ?? undefined) as AttachChoice | undefined,
    socketGroup: (args["socketGroup"] ?? undefined) as string | undefined,
    statusPage: (args["statusPage"] ?? undefined) as StatusPageChoice | undefined,
    environment,
    onReady: async ({ state, settings, choice, statusPage, volume }) => {
      const { mode } = volume.status();
      announceLaunch({ environment, log }, settings, { attach: choice, readOnly }, { ...state, mode });
      await announceStatusPage({ log, paths: new Paths(environment) }, name, statusPage);
      log.announce(readyLine(state));
    },
  });
}

/** The value of an option that comes from a launcher, not from people. */
function optionOf(words: readonly string[], name: string): string | undefined {
  return words.find((word) => word.startsWith(`--${name}=`))?.slice(name.length + 3);
}

/** The hidden subcommand that `vdo thin start` runs in the background. */
function runPoolDaemon(words: readonly string[], environment: Environment): Promise<number> {
  const settings = JSON.parse(optionOf(words, "settings") ?? "{}") as PoolSettings;
  return servePool({ settings, socket: optionOf(words, "socket"), environment, onReady: () => undefined });
}

/** The hidden subcommand that `start` runs in the background. Its options come from the launcher, not from people. */
function runDaemon(words: readonly string[], environment: Environment): Promise<number> {
  const option = (name: string): string | undefined => optionOf(words, name);
  return serve({
    name: option("name") ?? "",
    configurationFile: new Paths(environment).configuration(option("confFile")),
    readOnly: words.includes("--readOnly"),
    attach: option("attach") as AttachChoice | undefined,
    socketGroup: option("socketGroup"),
    logLevel: option("logLevel") as LogLevel | undefined,
    statusPage: option("statusPage"),
    environment,
    onReady: () => undefined,
  });
}
