/** What a service manager passes to a daemon, and is told by it (sd_listen_fds(3), sd_notify(3)). */
import type { Environment } from "../host/environment.ts";

/** First descriptor of socket activation. */
const LISTEN_FDS_START = 3;

/** The listening NBD socket that a service manager passes. */
export function inheritedSocket({ variables }: Environment): number | undefined {
  const count = Number(variables["LISTEN_FDS"] ?? 0);
  return count >= 1 && Number(variables["LISTEN_PID"] ?? process.pid) === process.pid ? LISTEN_FDS_START : undefined;
}

/**
 * Tells the service manager, if there is one, by systemd's own program: Node sends no datagrams to Unix sockets. So a unit needs
 * `NotifyAccess=all`. What cannot be told is nobody's loss.
 */
export async function tellServiceManager(
  { variables, programs }: Environment,
  ...assignments: string[]
): Promise<void> {
  if (!variables["NOTIFY_SOCKET"] || programs.find("systemd-notify") === undefined) return;
  await programs.run("systemd-notify", ["--no-block", ...assignments]);
}
