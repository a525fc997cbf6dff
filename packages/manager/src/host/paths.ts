/**
 * Where things live: configuration file, runtime folder with one folder per volume, logs, device links.
 *
 *     R/NAME/{nbd.sock,ctl.sock,pid,state.json,fuse/}     R/.s/…  locks, and sockets whose path would be too long
 *
 * A Unix socket's path is at most 107 bytes on Linux (103 elsewhere), and Node 20 cuts a longer one without saying so, so
 * two volumes could meet on one socket: long paths are replaced by `R/.s/HASH`.
 */
import { createHash } from "node:crypto";
import { lstat, mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { commandError, errnoOf } from "../errors.ts";
import type { ClientEnvironment } from "./environment.ts";

/** Files of one volume while it runs. */
export interface VolumePaths {
  readonly folder: string;
  readonly nbdSocket: string;
  readonly controlSocket: string;
  readonly pidFile: string;
  readonly stateFile: string;
  /** Token of the status page. */
  readonly tokenFile: string;
  readonly fuseFolder: string;
  readonly logFile: string;
}

export class Paths {
  readonly runtimeRoot: string;
  /** Folder of short socket names and locks. */
  readonly shortFolder: string;
  /** Folder of links to attached devices. */
  readonly deviceFolder: string;
  readonly #environment: ClientEnvironment;

  constructor(environment: ClientEnvironment) {
    this.#environment = environment;
    this.runtimeRoot = runtimeRoot(environment);
    this.shortFolder = join(this.runtimeRoot, ".s");
    this.deviceFolder = environment.variables["VDO_DEV_DIR"] || "/dev/vdo";
  }

  /** Path of the configuration file; `option` is the value of `--confFile`. */
  configuration(option: string | undefined): string {
    const { variables, uid, home } = this.#environment;
    if (option !== undefined) return resolve(option);
    if (variables["VDO_CONF_DIR"]) return join(resolve(variables["VDO_CONF_DIR"]), "vdoconf.yml");
    if (uid === 0) return "/etc/vdoconf.yml";
    return join(variables["XDG_CONFIG_HOME"] || join(home, ".config"), "vdo", "vdoconf.yml");
  }

  volume(name: string): VolumePaths {
    const folder = join(this.runtimeRoot, name);
    return {
      folder,
      nbdSocket: this.#socket(folder, "nbd.sock"),
      controlSocket: this.#socket(folder, "ctl.sock"),
      pidFile: join(folder, "pid"),
      stateFile: join(folder, "state.json"),
      tokenFile: join(folder, "status-page.token"),
      fuseFolder: join(folder, "fuse"),
      logFile: join(this.logFolder(), `${name}.log`),
    };
  }

  /** Socket path of the lock on `subject`, of kind `kind`. */
  lock(kind: "configuration" | "storage", subject: string): string {
    return join(this.shortFolder, `${kind.slice(0, 4)}-${shortHash(subject)}.lock`);
  }

  logFolder(): string {
    const { variables, uid, home } = this.#environment;
    if (variables["VDO_LOG_DIR"]) return resolve(variables["VDO_LOG_DIR"]);
    if (uid === 0) return "/var/log/vdo";
    return join(variables["XDG_STATE_HOME"] || join(home, ".local", "state"), "vdo");
  }

  /**
   * Makes the runtime root and its folder of short names. Throws `VDO_USER` when the root is a link, or is owned by someone
   * else, or when a socket's path would be too long even in its short form.
   */
  async prepare(): Promise<void> {
    const { uid } = this.#environment;
    const mode = uid === 0 ? 0o755 : 0o700;
    const root = this.runtimeRoot;
    if (Buffer.byteLength(join(this.shortFolder, `${"0".repeat(16)}.ctl`)) > this.#pathBytesMax()) {
      throw commandError("VDO_USER", `The path of the runtime folder ${root} is too long; set VDO_RUN_DIR`, root);
    }
    try {
      await mkdir(root, { recursive: true, mode });
      const stat = await lstat(root);
      if (!stat.isDirectory() || (uid >= 0 && stat.uid !== uid)) {
        throw commandError("VDO_USER", `${root} is a link or owned by someone else; set VDO_RUN_DIR`, root);
      }
      await mkdir(this.shortFolder, { recursive: true, mode: 0o755 });
    } catch (error) {
      if (errnoOf(error) === undefined) throw error;
      throw commandError("VDO_USER", `Cannot make the runtime folder ${root}; set VDO_RUN_DIR`, root, error);
    }
  }

  #pathBytesMax(): number {
    return this.#environment.platform === "linux" ? 107 : 103;
  }

  #socket(folder: string, file: "nbd.sock" | "ctl.sock"): string {
    const path = join(folder, file);
    if (Buffer.byteLength(path) <= this.#pathBytesMax()) return path;
    return join(this.shortFolder, `${shortHash(folder)}.${file.slice(0, 3)}`);
  }
}

function runtimeRoot({ variables, uid, platform, temporaryFolder }: ClientEnvironment): string {
  if (variables["VDO_RUN_DIR"]) return resolve(variables["VDO_RUN_DIR"]);
  if (uid === 0) return platform === "darwin" ? "/var/run/vdo" : "/run/vdo";
  if (variables["XDG_RUNTIME_DIR"]) return join(variables["XDG_RUNTIME_DIR"], "vdo");
  return join(temporaryFolder, `vdo-${uid}`);
}

function shortHash(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 16);
}
