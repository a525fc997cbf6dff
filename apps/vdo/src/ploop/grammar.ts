/** `vdo ploop`: its commands and their options, which are the original's where it has them. */
import { MESSAGE_NAMES } from "@vdo/ploop";
import { CommandParser, ParseEnd, type Streams } from "../parser.ts";

/** Exit status of mistakes on the command line, as of the original. */
export const PARAMETER_STATUS = 38;

export interface PloopOption {
  flags: readonly [string, ...string[]];
  /** Absent for a switch. */
  metavar?: string;
  choices?: readonly string[];
  required?: boolean;
  help: string;
}

export interface PloopGrammar {
  help: string;
  /** What only the command's own help tells. */
  details?: string;
  options: readonly PloopOption[];
  /** Names of the words that follow; one that ends in "…" takes the rest. */
  words: readonly string[];
}

const UUID: PloopOption = {
  flags: ["-u", "--uuid"],
  metavar: "UUID",
  help: "GUID of the snapshot, with or without braces.",
};
const NEEDED_UUID: PloopOption = { ...UUID, required: true };
const DESCRIPTOR = "DiskDescriptor.xml";

/** In the order in which help lists them. */
export const PLOOP_COMMANDS: { readonly [name: string]: PloopGrammar } = {
  init: {
    help: "Makes an image, and the descriptor of a disk beside it.",
    options: [
      {
        flags: ["-s", "--size"],
        metavar: "SIZE",
        required: true,
        help: "Size: a number with K, M, G or T, or sectors.",
      },
      { flags: ["-f", "--format"], choices: ["ploop1", "expanded", "preallocated", "raw"], help: "Default: ploop1." },
      { flags: ["-v", "--version"], choices: ["1", "2"], help: "Version of the format; the default is 2." },
      { flags: ["-b", "--blocksize"], metavar: "SECTORS", help: "Sectors of a cluster; the default is 2048." },
      { flags: ["-t", "--fstype"], choices: ["none"], help: "No file system is made." },
    ],
    words: ["IMAGE"],
  },
  info: {
    help: "Prints size, cluster size and version.",
    options: [{ flags: ["-s", "--spec"], help: "The same." }],
    words: [DESCRIPTOR],
  },
  check: {
    help: "Checks the images of a disk, or one image, and repairs what can be.",
    options: [
      { flags: ["-f", "--force"], help: "Check an image that was closed, too." },
      { flags: ["-F", "--hard-force"], help: "Zero entries that cannot be." },
      { flags: ["-c", "--check"], help: "Look for clusters used twice (always done)." },
      { flags: ["-r", "--ro"], help: "Change nothing." },
      { flags: ["-s", "--silent"], help: "Say nothing: the exit status tells." },
      { flags: ["-u", "--uuid"], metavar: "UUID", help: "The stack of a snapshot instead of the top's." },
      { flags: ["-d", "--drop-inuse"], help: "Take the dirty flag away when all is well." },
      { flags: ["-S", "--repair-sparse"], help: "Taken and ignored: sparse files are as good." },
    ],
    words: [`${DESCRIPTOR}|IMAGE`],
  },
  snapshot: {
    help: "Makes a snapshot, of a running disk too.",
    options: [
      UUID,
      { flags: ["-b", "--cbt"], metavar: "UUID", help: "A dirty bitmap of this UUID begins with the snapshot." },
    ],
    words: [DESCRIPTOR],
  },
  "snapshot-list": {
    help: "Lists the snapshots.",
    options: [
      { flags: ["-H", "--no-header"], help: "Without the line of titles." },
      { flags: ["-s", "--snap"], help: "Without the top; its parent is marked instead." },
      { flags: ["-o", "--output"], metavar: "FIELDS", help: "Of uuid, parent_uuid, current, fname." },
      UUID,
    ],
    words: [DESCRIPTOR],
  },
  "snapshot-delete": {
    help: "Deletes a snapshot: it is merged with its child.",
    options: [NEEDED_UUID],
    words: [DESCRIPTOR],
  },
  "snapshot-switch": {
    help: "Makes the disk what it was at a snapshot.",
    options: [NEEDED_UUID, { flags: ["-D", "--keep"], help: "Keep what was on top as a snapshot." }],
    words: [DESCRIPTOR],
  },
  "snapshot-merge": {
    help: "Merges the top, or the snapshot of UUID, into its parent.",
    options: [
      UUID,
      { flags: ["-A", "--all"], help: "Merge all of the stack." },
      {
        flags: ["-n", "--new"],
        metavar: "FILE",
        help: "Merge into a new file, in the order of the disk; of a disk at rest.",
      },
    ],
    words: [DESCRIPTOR],
  },
  resize: {
    help: "Makes a disk larger, a running one too.",
    options: [
      { flags: ["-s", "--size"], metavar: "SIZE", required: true, help: "New size." },
      { flags: ["--shrink"], help: "Make a plain disk smaller; what lies beyond is lost." },
    ],
    words: [DESCRIPTOR],
  },
  convert: {
    help: "Makes a disk raw, preallocated or expanded, or its images of another version.",
    options: [
      { flags: ["-f", "--format"], choices: ["raw", "preallocated", "expanded"], help: "What it becomes." },
      { flags: ["-v", "--version"], choices: ["1", "2"], help: "Version that the images get." },
    ],
    words: [DESCRIPTOR],
  },
  copy: {
    help: "Copies a disk: between descriptors, files, block devices and NBD exports (VDO and thin volumes).",
    options: [
      { flags: ["-s", "--source"], metavar: "DISK", required: true, help: "What is read." },
      {
        flags: ["-d", "--destination"],
        metavar: "DISK",
        required: true,
        help: "What is written; a file that is not there is made.",
      },
    ],
    words: [],
  },
  start: {
    help: "Serves a disk over NBD, in the background.",
    options: [
      { flags: ["-r", "--read-only"], help: "Serve it read-only." },
      { flags: ["-u", "--uuid"], metavar: "UUID", help: "Serve a snapshot, read-only." },
      {
        flags: ["--punch-holes"],
        help: "Give the space of discarded clusters back to the file system, with fallocate of util-linux.",
      },
      { flags: ["--socket"], metavar: "PATH", help: "Path of the NBD socket." },
      { flags: ["--foreground"], help: "Serve in this process." },
    ],
    words: [DESCRIPTOR],
  },
  stop: { help: "Stops serving a disk.", options: [], words: [DESCRIPTOR] },
  status: { help: "Prints the state of a running disk.", options: [], words: [DESCRIPTOR] },
  suspend: { help: "Holds the requests of a running disk.", options: [], words: [DESCRIPTOR] },
  resume: { help: "Lets them go on.", options: [], words: [DESCRIPTOR] },
  message: {
    help: "Sends a message to a running disk, as dmsetup does to the kernel's target.",
    details: `Messages: ${MESSAGE_NAMES.join(", ")}. Where the kernel takes a file descriptor, give a file's name.`,
    options: [],
    words: [DESCRIPTOR, "WORD…"],
  },
  bitmap: {
    help: "Notes what changes, for incremental backups; kept in the top image while the disk rests.",
    options: [
      { flags: ["-u", "--uuid"], metavar: "UUID", help: "The bitmap; show without it tells all." },
      {
        flags: ["-g", "--granularity"],
        metavar: "SECTORS",
        help: "Sectors of one bit, a power of two; the default is 128.",
      },
    ],
    words: [DESCRIPTOR, "show|start|clear|drop"],
  },
  tracking: { help: "Tracks what changes in the top image.", options: [], words: [DESCRIPTOR, "start|stop|get_next"] },
};

export interface ParsedPloop {
  name: string;
  args: Readonly<Record<string, unknown>>;
  /** Words after the options. */
  words: string[];
}

/** Parses what follows `vdo ploop`. Throws {@link ParseEnd} after help or an error was printed. */
export function parsePloop(words: readonly string[], streams: Streams): ParsedPloop {
  const [name, ...rest] = words;
  if (name === undefined || name === "-h" || name === "--help") {
    streams.out(summary());
    throw new ParseEnd(name === undefined ? PARAMETER_STATUS : 0);
  }
  const grammar = Object.hasOwn(PLOOP_COMMANDS, name) ? PLOOP_COMMANDS[name] : undefined;
  if (grammar === undefined) {
    streams.err(`Unknown command: ${name}\n${summary()}`);
    throw new ParseEnd(PARAMETER_STATUS);
  }
  const description = [grammar.help, grammar.details ?? ""].join(" ").trim();
  const parser = new CommandParser(streams, { prog: `vdo ploop ${name}`, description });
  for (const { flags, metavar, choices, required, help } of grammar.options) {
    const isSwitch = metavar === undefined && choices === undefined;
    parser.add_argument(...flags, {
      help,
      ...(isSwitch ? { action: "store_true" } : {}),
      ...(required === true ? { required } : {}),
      ...(metavar === undefined ? {} : { metavar }),
      ...(choices === undefined ? {} : { choices: [...choices] }),
    });
  }
  for (const [index, word] of grammar.words.entries()) {
    parser.add_argument(`word${index}`, {
      metavar: word.replace("…", ""),
      ...(word.endsWith("…") ? { nargs: "+" } : {}),
    });
  }
  try {
    const args = parser.parse_args(rest) as Record<string, unknown>;
    return { name, args, words: grammar.words.flatMap((_, index) => args[`word${index}`] as string | string[]) };
  } catch (error) {
    if (error instanceof ParseEnd && error.status !== 0) throw new ParseEnd(PARAMETER_STATUS);
    throw error;
  }
}

function summary(): string {
  const lines = Object.entries(PLOOP_COMMANDS).map(([name, { help }]) => `  ${name.padEnd(16)} ${help}`);
  return `usage: vdo ploop COMMAND …\n${lines.join("\n")}\n'vdo ploop COMMAND --help' tells the options of one.\n`;
}
