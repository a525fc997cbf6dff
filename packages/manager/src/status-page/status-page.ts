/** The status page of a daemon: its token, its server and its samples, from start to stop. */
import { rm, writeFile } from "node:fs/promises";
import { errorMessage } from "@vdo/base";
import type { Daemon, LogText } from "../daemon/daemon.ts";
import { CommandLog } from "../host/command-log.ts";
import { Manager } from "../manager.ts";
import type { StatusPageChoice } from "../values.ts";
import { newToken } from "./guard.ts";
import { loadPageFiles } from "./page-files.ts";
import { PageServer } from "./page-server.ts";
import { type SwitchMover, VolumeSource } from "./volume-source.ts";

/** Where the page is, or why there is none. */
export type StatusPageState = { url: string } | { failure: string };

export interface StatusPageOptions {
  daemon: Daemon;
  choice: Exclude<StatusPageChoice, "disabled">;
  tokenFile: string;
  configurationFile: string;
  log: LogText;
}

export class StatusPage {
  readonly #server: PageServer;
  readonly #source: VolumeSource;
  readonly #tokenFile: string;

  private constructor(server: PageServer, source: VolumeSource, tokenFile: string) {
    this.#server = server;
    this.#source = source;
    this.#tokenFile = tokenFile;
  }

  /** Writes a new token that only the daemon's user can read, listens, and begins to sample. Throws `VDO_SYSTEM`. */
  static async start(options: StatusPageOptions): Promise<StatusPage> {
    const { daemon, choice, tokenFile } = options;
    const { clock } = daemon.environment;
    const token = newToken();
    await rm(tokenFile, { force: true });
    await writeFile(tokenFile, `${token}\n`, { mode: 0o600, flag: "wx" });
    const source = new VolumeSource({ daemon, clock, moveSwitch: switchMover(options) });
    const port = choice === "enabled" ? 0 : Number(choice);
    const server = await PageServer.listen({ source, token, port, files: await loadPageFiles() });
    source.start();
    return new StatusPage(server, source, tokenFile);
  }

  get url(): string {
    return this.#server.url;
  }

  async stop(): Promise<void> {
    this.#source.stop();
    await this.#server.close();
    await rm(this.#tokenFile, { force: true });
  }
}

/** Starts the page; a page that cannot be had is no reason to serve no volume, so the failure is logged and told. */
export async function startStatusPage(options: StatusPageOptions): Promise<StatusPage | { failure: string }> {
  try {
    return await StatusPage.start(options);
  } catch (error) {
    await rm(options.tokenFile, { force: true });
    options.log("warning", errorMessage(error));
    return { failure: errorMessage(error) };
  }
}

/** The commands enableCompression, disableDeduplication and so on, told into the daemon's log. */
function switchMover({ daemon, configurationFile, log }: StatusPageOptions): SwitchMover {
  const { environment, name } = daemon;
  return async (what, on) => {
    const tell = (level: "info" | "error") => (text: string) => log(level, `status page: ${text.trimEnd()}`);
    const commandLog = new CommandLog({
      program: "vdo",
      out: tell("info"),
      err: tell("error"),
      wallMicroseconds: environment.clock.wallMicroseconds,
    });
    const manager = new Manager({ environment, log: commandLog, configurationFile });
    if (what === "compression") await manager.setCompression({ name }, on);
    else await manager.setDeduplication({ name }, on);
  };
}
