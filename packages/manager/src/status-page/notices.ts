/** What a volume's state asks of its administrator. */
import type { Notice, VolumeSnapshot } from "./snapshot.ts";

type Known = Pick<VolumeSnapshot, "name" | "mode" | "stage" | "isServedReadOnly" | "indexState" | "recovery"> & {
  /** Share of the physical blocks in use, 0 to 1; null when it cannot be told. */
  usedShare: number | null;
};

/** From these shares on a volume is nearly full, and full. */
const WARNING_SHARE = 0.8;
const CRITICAL_SHARE = 0.95;

/** Notices, most urgent first. */
export function noticesOf(known: Known): Notice[] {
  const found = [modeNotice(known), fullnessNotice(known), indexNotice(known)];
  const order = ["critical", "warning", "information"];
  return found
    .filter((notice) => notice !== undefined)
    .sort((a, b) => order.indexOf(a.severity) - order.indexOf(b.severity));
}

const RECOVERY_CAUSES = {
  crash: "It was not stopped cleanly: its journals are replayed.",
  rebuild: "A rebuild was asked for: its metadata is made anew from what is on the storage.",
  "read-only": "It is in read-only mode and was not stopped cleanly: its journal is applied in memory.",
} as const;

function modeNotice({ name, mode, stage, isServedReadOnly, recovery }: Known): Notice | undefined {
  if (stage === "starting" && recovery !== null) {
    return {
      severity: "warning",
      title: "The volume is being recovered",
      text: `${RECOVERY_CAUSES[recovery.cause]} It serves no requests until that is done.`,
      nextStep: "Wait. Nothing that was flushed is lost; the progress is below.",
      commands: [],
    };
  }
  if (stage === "starting") {
    return {
      severity: "information",
      title: "The volume is starting",
      text: "It is not served yet.",
      nextStep: "Wait.",
      commands: [],
    };
  }
  if (mode === "read-only" && isServedReadOnly) {
    return {
      severity: "information",
      title: "The volume is served read-only",
      text: "It was started with --readOnly: nothing is written to its storage.",
      nextStep: "To write again, start it without --readOnly.",
      commands: [`vdo stop --name=${name}`, `vdo start --name=${name}`],
    };
  }
  if (mode === "read-only") {
    return {
      severity: "critical",
      title: "The volume is in read-only mode",
      text: "Its metadata could not be trusted or written any more. Reads go on, and every write fails.",
      nextStep:
        "Copy what you need, and look for errors of the storage in the system's log. Then rebuild the metadata:",
      commands: ["stop", "audit", "forceRebuild", "start"].map((command) => `vdo ${command} --name=${name}`),
    };
  }
  if (mode === "recovering") {
    return {
      severity: "warning",
      title: "The volume is recovering",
      text: `${RECOVERY_CAUSES[recovery?.cause ?? "crash"]} It serves requests while its reference counts are rebuilt; figures of its space come after that.`,
      nextStep: "Wait. Nothing that was flushed is lost; the progress is below.",
      commands: [],
    };
  }
  return undefined;
}

function fullnessNotice({ name, usedShare }: Known): Notice | undefined {
  if (usedShare === null || usedShare < WARNING_SHARE) return undefined;
  // Rounded down: 99.99 % is not full.
  const percent = Math.floor(usedShare * 1000) / 10;
  const isFull = usedShare >= 1;
  return {
    severity: usedShare >= CRITICAL_SHARE ? "critical" : "warning",
    title: isFull ? "The volume is full" : `The volume is ${percent.toFixed(1)} % full`,
    text: isFull
      ? "Writes of new data fail. Writes of zeros, discards and duplicates of stored data still succeed."
      : "At 100 % writes of new data fail.",
    nextStep: "Free space with discards (fstrim on its file system), or enlarge the storage and let the volume grow:",
    commands: [`vdo growPhysical --name=${name}`],
  };
}

function indexNotice({ name, indexState, isServedReadOnly, mode }: Known): Notice | undefined {
  if (isServedReadOnly || mode === "read-only" || indexState !== "error") return undefined;
  return {
    severity: "warning",
    title: "The deduplication index has failed",
    text: "Data is stored safely, but duplicates are not found.",
    nextStep: "Look at the daemon's log for the reason, then have the index opened again:",
    commands: ["disableDeduplication", "enableDeduplication"].map((command) => `vdo ${command} --name=${name}`),
  };
}
