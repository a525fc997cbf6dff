/** Starting daemons: what is asked for and what comes back. */
import type { Attachment } from "../attach/attachment.ts";
import type { RecoveryProgress, VolumeStatus } from "../engine.ts";
import type { Environment } from "../host/environment.ts";
import type { Paths } from "../host/paths.ts";
import type { AttachChoice, LogLevel, StatusPageChoice } from "../values.ts";

export interface LaunchRequest {
  name: string;
  /** Absolute path of the configuration file that holds the volume. */
  configurationFile: string;
  readOnly: boolean;
  attach: AttachChoice;
  socketGroup?: string | undefined;
  /** What the daemon logs: this level and those that are worse. */
  logLevel?: LogLevel | undefined;
  /** Overrides the stored choice for this start. */
  statusPage?: StatusPageChoice | undefined;
  /** Seconds to wait; 0 waits without limit. */
  timeoutSeconds: number;
  environment: Environment;
  paths: Paths;
  /** Told once when starting takes longer than {@link SLOW_START_MILLISECONDS}. */
  onSlow(): void;
  /** Told as the volume is recovered: at each phase, and now and then in a long one. */
  onRecovery?(progress: RecoveryProgress): void;
}

/** After this long a start is worth a word. */
export const SLOW_START_MILLISECONDS = 5000;

/** A daemon that serves. */
export interface ReadyReport {
  pid: number;
  instance: number;
  attach: Attachment;
  mode: VolumeStatus["mode"];
}

/** Starts a daemon and waits until it serves. Throws the daemon's own error, with its class. */
export type Launcher = (request: LaunchRequest) => Promise<ReadyReport>;
