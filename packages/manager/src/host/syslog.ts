/** The system's log, through logger(1): Node has no datagram sockets of the kind that /dev/log is. */
import { existsSync } from "node:fs";
import type { CommandLogOptions } from "./command-log.ts";
import type { ClientEnvironment } from "./environment.ts";

const PRIORITIES = { WARNING: "user.warning", ERROR: "user.err" } as const;

/** Undefined on a machine without a log, or without the program. */
export function systemLog({ programs, systemRoot }: ClientEnvironment): CommandLogOptions["syslog"] {
  if (!existsSync(`${systemRoot}/dev/log`) || programs.find("logger") === undefined) return undefined;
  return (level, text) => programs.run("logger", ["--tag", "vdo", "--priority", PRIORITIES[level], "--", text]);
}
