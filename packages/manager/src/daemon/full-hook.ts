/** Runs the command that an administrator wants to be run when a volume fills up. */
import { errorMessage } from "@vdo/base";
import type { Environment } from "../host/environment.ts";
import type { LogText } from "./daemon.ts";

export interface FullEvent {
  /** Name of the volume. */
  name: string;
  /** Percent of the physical blocks in use, with two decimals. */
  percent: string;
}

/** Starts `command` by `sh -c` with the name and the percentage as its words; what it does is logged, never waited for. */
export function runFullHook(
  command: string,
  { name, percent }: FullEvent,
  environment: Environment,
  log: LogText,
): void {
  log("info", `running the command for full volumes: ${command}`);
  environment.programs.run("sh", ["-c", `${command} "$@"`, "vdo", name, percent]).then(
    ({ status, stderr }) => {
      if (status !== 0) log("warning", `the command for full volumes ended with status ${status}: ${stderr.trim()}`);
    },
    (error: unknown) => log("warning", `the command for full volumes could not run: ${errorMessage(error)}`),
  );
}
