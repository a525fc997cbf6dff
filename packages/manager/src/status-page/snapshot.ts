/**
 * The data of the status page, apart from its presentation: what `GET /api/snapshot` and `GET /api/history` answer. Types
 * alone, for the daemon that fills them, the page that shows them, and programs that read them.
 */

/** What an administrator should know and do, most urgent first. */
export interface Notice {
  severity: "information" | "warning" | "critical";
  /** What happened. */
  title: string;
  /** What it means for the users of the volume. */
  text: string;
  /** What to do about it. */
  nextStep: string;
  /** Commands for that, in order. */
  commands: string[];
}

/** Space of a volume in bytes. */
export interface VolumeSpace {
  physicalBytes: number;
  /** Data and metadata. */
  usedBytes: number;
  dataBytes: number;
  /** Index, journals, maps and reference counts: what is in use before any data is. */
  overheadBytes: number;
  availableBytes: number;
  /** Use% of the table of vdostats, rounded to the nearest. */
  usedPercent: number;
  logicalBytes: number;
  logicalUsedBytes: number;
  /** "saving percent" of vdostats; null without data. */
  savingPercent: number | null;
}

/** How far a recovery has come: so much of this phase. */
export interface SnapshotRecovery {
  /** It was not stopped cleanly; a rebuild was asked for; or its journal is applied in memory, for it is in read-only mode. */
  cause: "crash" | "rebuild" | "read-only";
  phase: string;
  done: number;
  of: number;
}

/** Mean figures of the requests of one kind, over the seconds before. */
export interface OperationRate {
  requestsPerSecond: number;
  bytesPerSecond: number;
  /** Mean time from request to answer; null without requests. */
  milliseconds: number | null;
}

export type ActivityRates = Record<"read" | "write" | "flush" | "discard", OperationRate>;

/** A volume at one moment. */
export interface VolumeSnapshot {
  name: string;
  softwareVersion: string;
  /** ISO 8601, UTC. */
  takenAt: string;
  /** When the daemon became ready, likewise; null before that. */
  startedAt: string | null;
  stage: "starting" | "ready" | "stopping" | "stopped";
  /** Null until the volume is open. */
  mode: "normal" | "recovering" | "read-only" | null;
  recovery: SnapshotRecovery | null;
  device: string;
  /** Path of the attached device, or the NBD URI; null until the volume is ready. */
  attachedAs: string | null;
  uuid: string | null;
  /** Started with --readOnly: neither data nor settings can change. */
  isServedReadOnly: boolean;
  writePolicy: string;
  /** Null until the volume is open. */
  compression: boolean | null;
  deduplication: boolean | null;
  indexState: string | null;
  clients: number;
  /** Null while it cannot be told: before the volume is open, while it recovers, and when it is read-only. */
  space: VolumeSpace | null;
  notices: Notice[];
  /** Rates over the last interval of the history; null before the first one has passed. */
  activity: ActivityRates | null;
  /** All statistics, as `vdostats --json` prints them. */
  statistics: object | null;
}

/** Space at one moment. */
export interface SpaceSample {
  /** Seconds since 1970. */
  at: number;
  usedBytes: number;
  logicalUsedBytes: number;
  savingPercent: number | null;
}

export interface ActivitySample extends ActivityRates {
  /** Seconds since 1970: the end of the interval that it tells of. */
  at: number;
}

export interface VolumeHistory {
  /** Since the daemon started, at most 720 samples; the interval between them doubles when there would be more. */
  space: { intervalSeconds: number; samples: SpaceSample[] };
  /** The last ten minutes. */
  activity: { intervalSeconds: number; samples: ActivitySample[] };
}

/** Body of every answer that is not a success. */
export interface Refusal {
  error: { code: string; message: string };
}
