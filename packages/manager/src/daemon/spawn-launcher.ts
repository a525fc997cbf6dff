/** Starts the daemon of a volume. */
import type { RecoveryProgress } from "../engine.ts";
import type { Launcher, LaunchRequest, ReadyReport } from "./launcher.ts";
import { type LaunchEnd, spawnDaemon } from "./spawn-daemon.ts";

export type LaunchReport = LaunchEnd<unknown> | { recovery: RecoveryProgress };

/** A launcher that runs `command` followed by `_serve` and its options. */
export function spawnLauncher(command: readonly string[]): Launcher {
  return (request) => {
    const { name, paths, environment, timeoutSeconds, onSlow, onRecovery } = request;
    return spawnDaemon<ReadyReport>({
      command: [...command, "_serve", ...serveArguments(request)],
      what: `VDO ${name}`,
      logFile: paths.volume(name).logFile,
      environment,
      timeoutSeconds,
      onSlow,
      onReport: ({ recovery }) => onRecovery?.(recovery as RecoveryProgress),
    });
  };
}

function serveArguments(request: LaunchRequest): string[] {
  const { name, configurationFile, readOnly, attach, socketGroup, logLevel, statusPage } = request;
  return [
    `--name=${name}`,
    `--confFile=${configurationFile}`,
    `--attach=${attach}`,
    ...(readOnly ? ["--readOnly"] : []),
    ...(socketGroup === undefined ? [] : [`--socketGroup=${socketGroup}`]),
    ...(logLevel === undefined ? [] : [`--logLevel=${logLevel}`]),
    ...(statusPage === undefined ? [] : [`--statusPage=${statusPage}`]),
  ];
}
