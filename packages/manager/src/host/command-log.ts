/**
 * What a command tells: announcements on standard output, warnings and errors on standard error, everything in the log
 * file. Forms and destinations are those of the legacy manager, so that scripts which read them go on working.
 */
import { appendFileSync, renameSync, statSync } from "node:fs";
import { errorMessage } from "@vdo/base";
import { commandError, errorText } from "../errors.ts";

/** A log file is rotated when it has this many bytes; five old ones are kept. */
const LOG_BYTES_MAX = 10 * 1024 * 1024;
const OLD_LOGS = 5;

export type Level = "DEBUG" | "INFO" | "WARNING" | "ERROR";

export interface CommandLogOptions {
  /** Name of the program as called; the prefix of warnings and errors. */
  program: string;
  out(text: string): void;
  err(text: string): void;
  logFile?: string | undefined;
  /** Print the steps that are taken, on standard output. */
  verbose?: boolean;
  /** Print every record on standard error, with the logger's name and the error's stack. */
  debug?: boolean;
  /** Hands a warning or an error to the system's log. */
  syslog?: ((level: "WARNING" | "ERROR", text: string) => Promise<unknown>) | undefined;
  /** Time of a record, in microseconds since 1970. */
  wallMicroseconds(): number;
}

export class CommandLog {
  readonly #options: CommandLogOptions;
  readonly #underWay: Promise<unknown>[] = [];

  constructor(options: CommandLogOptions) {
    this.#options = options;
    if (options.logFile === undefined) return;
    try {
      rotate(options.logFile);
      appendFileSync(options.logFile, "");
    } catch (error) {
      const text = `Unable to configure logging to '${options.logFile}' ${errorMessage(error)}`;
      throw commandError("VDO_COMMAND_FAILED", text, options.logFile, error);
    }
  }

  /** Progress: a plain line on standard output. */
  announce(text: string): void {
    this.#options.out(`${text}\n`);
    this.record("INFO", text);
  }

  /** One step, printed with `--verbose`, indented by four blanks. */
  step(text: string): void {
    if (this.#options.verbose === true) this.#options.out(`    ${text}\n`);
    this.record("INFO", text, "utils.Command");
  }

  /** For the log file only. */
  info(text: string): void {
    this.record("INFO", text);
  }

  /** Does not change the exit status. */
  warning(text: string): void {
    if (this.#options.debug !== true) this.#options.err(`${this.#options.program}: WARNING - ${text}\n`);
    this.record("WARNING", text);
  }

  error(error: unknown): void {
    const text = errorMessage(error);
    if (this.#options.debug !== true) this.#options.err(`${this.#options.program}: ERROR - ${errorText(error)}\n`);
    this.record("ERROR", text);
    if (this.#options.debug === true && error instanceof Error) this.#options.err(`${error.stack}\n`);
  }

  /** Resolves when everything is where it goes. */
  async finish(): Promise<void> {
    await Promise.all(this.#underWay.splice(0));
  }

  record(level: Level, text: string, logger = this.#options.program): void {
    const { debug, logFile, program, err } = this.#options;
    if (debug === true) err(`${program}: ${logger}: ${level} - ${text}\n`);
    if (level === "WARNING" || level === "ERROR") {
      const sent = this.#options.syslog?.(level, `${level} - ${text}`);
      if (sent !== undefined) this.#underWay.push(sent.catch(() => undefined));
    }
    if (logFile === undefined || (level === "DEBUG" && debug !== true)) return;
    appendFileSync(logFile, `${timestamp(this.#options.wallMicroseconds())} ${logger}: ${level} - ${text}\n`);
  }
}

/** Local time as the log file has it: `2024-01-01 12:00:00,755`. */
export function timestamp(wallMicroseconds: number): string {
  const date = new Date(wallMicroseconds / 1000);
  const two = (n: number): string => String(n).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const time = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return `${day} ${time},${String(date.getMilliseconds()).padStart(3, "0")}`;
}

/** Moves a full regular log file to `.1`, `.1` to `.2` and so on; terminals and pipes are left alone. */
export function rotate(path: string): void {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined || !stat.isFile() || stat.size < LOG_BYTES_MAX) return;
  for (let n = OLD_LOGS; n >= 1; n--) {
    const from = n === 1 ? path : `${path}.${n - 1}`;
    if (statSync(from, { throwIfNoEntry: false }) !== undefined) renameSync(from, `${path}.${n}`);
  }
}
