/** `vdo thin`: its commands and their options, which are those of the original tools where they have them. */
import { CommandParser, ParseEnd, type Streams } from "../parser.ts";
import { ESTIMATE_UNITS } from "./estimate-units.ts";

/** Exit status of every failure, as of the original tools. */
export const FAILURE_STATUS = 1;

export interface ThinOption {
  flags: readonly [string, ...string[]];
  /** Absent for a switch. */
  metavar?: string;
  choices?: readonly string[];
  /** The value of the option without one, where it may stand so. */
  bare?: string;
  required?: boolean;
  /** May be given several times. */
  repeatable?: boolean;
  help: string;
}

export interface ThinGrammar {
  help: string;
  options: readonly ThinOption[];
  /** Names of the words that follow; in brackets one that may be left out. */
  words: readonly string[];
}

const SNAPSHOT: ThinOption = {
  flags: ["-m", "--metadata-snap", "--metadata-snapshot"],
  help: "Read the metadata snapshot of a pool that runs.",
};
/** `-mBLOCK` and `--metadata-snap=BLOCK` are turned into this one. */
const SNAPSHOT_BLOCK: ThinOption = {
  flags: ["--metadata-snap-block"],
  metavar: "BLOCK",
  help: "The same, at this block (also -mBLOCK).",
};
const OUTPUT: ThinOption = { flags: ["-o", "--output"], metavar: "FILE", help: "Write to this file." };
const INPUT: ThinOption = {
  flags: ["-i", "--input"],
  metavar: "FILE",
  required: true,
  help: "Read from this file or device.",
};
const TARGET: ThinOption = { ...OUTPUT, required: true, help: "File or device to write; it must be there already." };
const OVERRIDES: readonly ThinOption[] = [
  { flags: ["--transaction-id"], metavar: "N", help: "At least this transaction id." },
  { flags: ["--data-block-size"], metavar: "SECTORS", help: "This size of data blocks." },
  { flags: ["--nr-data-blocks"], metavar: "N", help: "At least this many data blocks." },
];
const NAME: ThinOption = { flags: ["--name"], metavar: "NAME", help: "Name of the pool in the configuration file." };
const CONF_FILE: ThinOption = { flags: ["--confFile"], metavar: "FILE", help: "Configuration file." };
const PLACE: readonly ThinOption[] = [
  { flags: ["--device"], metavar: "DEV", help: "A pool on one file, device or NBD URI, which carries a label." },
  { flags: ["--metadata-dev"], metavar: "DEV", help: "Metadata of a pool on two: file, device or NBD URI." },
  { flags: ["--data-dev"], metavar: "DEV", help: "Data of a pool on two: file, device or NBD URI." },
];
const POOL: readonly ThinOption[] = [NAME, ...PLACE, CONF_FILE];
const ALL: ThinOption = { flags: ["--all"], help: "All pools of the configuration file." };
const SWITCH = ["enabled", "disabled"];
const FEATURES: readonly ThinOption[] = [
  {
    flags: ["--size"],
    metavar: "SIZE",
    help: "Virtual size of devices that have none of their own; else that of the data.",
  },
  { flags: ["--low-water-mark"], metavar: "BLOCKS", help: "Tell when no more data blocks are free." },
  { flags: ["--discard"], choices: ["passdown", "no_passdown", "ignore"], help: "What discards of thin devices do." },
  { flags: ["--block-zeroing"], choices: SWITCH, help: "New blocks are zeroed around what is written." },
  { flags: ["--error-if-no-space"], choices: SWITCH, help: "A full pool fails writes instead of queueing them." },
  { flags: ["--no-space-timeout"], metavar: "SECONDS", help: "How long a full pool queues; 0 is for ever." },
  { flags: ["--read-only"], choices: SWITCH, help: "The metadata is not changed." },
];
const PHYSICAL: ThinOption = {
  flags: ["--physical-size"],
  metavar: "SIZE",
  help: "Make the file of the pool's data so long, sparsely.",
};
const QUIET: ThinOption = { flags: ["-q", "--quiet"], help: "No progress and no summary on standard error." };
const TOOL: readonly ThinOption[] = [NAME, CONF_FILE];

/** In the order in which help lists them. */
export const THIN_COMMANDS: { readonly [name: string]: ThinGrammar } = {
  "create-pool": {
    help: "Makes a pool on blank storage; with --name it is remembered.",
    options: [
      ...POOL,
      {
        flags: ["--block-size"],
        metavar: "SIZE",
        help: "Size of data blocks, 64K (the default) to 1G, a multiple of 64K.",
      },
      { flags: ["--metadata-size"], metavar: "SIZE", help: "With --device: how much of it is for metadata." },
      PHYSICAL,
      ...FEATURES,
    ],
    words: [],
  },
  "import-pool": {
    help: "Remembers a pool that exists.",
    options: [...POOL, ...FEATURES],
    words: [],
  },
  "remove-pool": { help: "Stops a pool and forgets it; its storage stays.", options: [NAME, CONF_FILE], words: [] },
  start: {
    help: "Serves the thin devices of a pool over NBD, by a daemon in the background.",
    options: [
      ...POOL,
      ALL,
      ...FEATURES,
      { flags: ["--socket"], metavar: "PATH", help: "Path of the NBD socket." },
      { flags: ["--foreground"], help: "Serve in this process, until it is stopped." },
    ],
    words: [],
  },
  stop: { help: "Stops serving a pool.", options: [...POOL, ALL], words: [] },
  list: {
    help: "Lists the configured pools, the devices of one, or those in METADATA.",
    options: [...POOL, SNAPSHOT],
    words: ["[METADATA]"],
  },
  status: { help: "Prints the status line of a pool.", options: POOL, words: [] },
  table: { help: "Prints the table line of a pool.", options: POOL, words: [] },
  modify: {
    help: "Loads another table: changes features of a pool, running or not.",
    options: [...POOL, ...FEATURES],
    words: [],
  },
  grow: { help: "Takes the present sizes of a pool's storage.", options: [...POOL, PHYSICAL], words: [] },
  create: {
    help: "Makes a thin device.",
    options: [
      ...POOL,
      { flags: ["--size"], metavar: "SIZE", help: "Its virtual size (remembered with --name)." },
      { flags: ["--origin"], metavar: "DEV", help: "External origin: what is read where nothing is mapped." },
    ],
    words: ["ID"],
  },
  snapshot: { help: "Makes a snapshot of a thin device.", options: POOL, words: ["ID", "ORIGIN"] },
  delete: { help: "Deletes a thin device.", options: POOL, words: ["ID"] },
  message: {
    help: "Sends a message to a pool, running or not: create_thin, create_snap, delete, set_transaction_id, reserve_metadata_snap, release_metadata_snap.",
    options: POOL,
    words: ["MESSAGE"],
  },
  "reserve-metadata-snap": {
    help: "Keeps the present metadata readable for the tools while the pool runs.",
    options: POOL,
    words: [],
  },
  "release-metadata-snap": { help: "Lets go of it.", options: POOL, words: [] },
  send: {
    help: "Writes a snapshot, or what changed since another, as a stream; the pool may run.",
    options: [
      ...POOL,
      { flags: ["--thin", "--snap"], metavar: "ID", required: true, help: "The snapshot; it must not be written." },
      { flags: ["--base"], metavar: "ID", help: "The snapshot that the receiver has; without, all is sent." },
      { flags: ["--base-digest"], metavar: "HEX", help: "Its digest, as sending it told: then it is not read." },
      { flags: ["--size"], metavar: "SIZE", help: "Virtual size of the device." },
      { ...SNAPSHOT, help: "Read the metadata snapshot that is held; else one is reserved for the time." },
      { ...OUTPUT, help: "Write to this file, instead of standard output." },
      QUIET,
    ],
    words: [],
  },
  receive: {
    help: "Applies a stream to a file, device or NBD export, or to a pool; all of it is checked before.",
    options: [
      { flags: ["-i", "--input"], metavar: "FILE", help: "Read from this file, instead of standard input." },
      { ...OUTPUT, metavar: "TARGET", help: "File, device or NBD URI to write; a file is made." },
      ...POOL,
      {
        flags: ["--thin", "--snap"],
        metavar: "ID",
        help: "Thin device of the pool to write; a new one, or with the base's content.",
      },
      { flags: ["--base"], metavar: "ID", help: "Thin device that holds the base: ID becomes a snapshot of it." },
      { flags: ["--overwrite"], help: "A target that is not blank may be lost." },
      { flags: ["--resume"], help: "Go on where receiving this stream was interrupted." },
      { flags: ["--spool"], metavar: "FOLDER", help: "Where a stream from a pipe is kept until it is checked." },
      QUIET,
    ],
    words: [],
  },
  check: {
    help: "Checks metadata.",
    options: [
      ...TOOL,
      { flags: ["-q", "--quiet"], help: "Print nothing; the exit status tells." },
      SNAPSHOT,
      { flags: ["--super-block-only"], help: "Check the superblock only." },
      { flags: ["--skip-mappings"], help: "Check the devices, not their mappings." },
      { flags: ["--ignore-non-fatal-errors"], help: "Succeed in spite of leaks." },
      { flags: ["--auto-repair"], help: "Free what has leaked." },
      { flags: ["--clear-needs-check-flag"], help: "Clear the flag if all is well." },
      { flags: ["--override-mapping-root"], metavar: "BLOCK", help: "Begin at this mapping root." },
      { flags: ["--override-details-root"], metavar: "BLOCK", help: "Begin at this details root." },
    ],
    words: ["[METADATA]"],
  },
  dump: {
    help: "Prints metadata as XML.",
    options: [
      ...TOOL,
      { flags: ["-f", "--format"], choices: ["xml", "human_readable"], help: "Default: xml." },
      { flags: ["-r", "--repair"], help: "Leave out what cannot be read." },
      SNAPSHOT,
      SNAPSHOT_BLOCK,
      { flags: ["--dev-id"], metavar: "ID", repeatable: true, help: "Only this device." },
      { flags: ["--skip-mappings"], help: "Without the mappings." },
      OUTPUT,
    ],
    words: ["[METADATA]"],
  },
  restore: {
    help: "Makes metadata from XML.",
    options: [INPUT, TARGET, { flags: ["-q", "--quiet"], help: "Print nothing." }, ...OVERRIDES],
    words: [],
  },
  repair: {
    help: "Makes new metadata of what can be read, or of an earlier state that is whole.",
    options: [
      INPUT,
      TARGET,
      ...OVERRIDES,
      {
        flags: ["--roots"],
        choices: ["auto", "present", "earlier"],
        help: "What the present roots reach; an earlier state; or (auto) that only where no device is left.",
      },
    ],
    words: [],
  },
  ls: {
    help: "Prints the thin devices in a table.",
    options: [
      ...TOOL,
      SNAPSHOT,
      { flags: ["--no-headers"], help: "Without the line of titles." },
      { flags: ["-o", "--format"], metavar: "FIELDS", help: "Columns, separated by commas." },
    ],
    words: ["[METADATA]"],
  },
  delta: {
    help: "Prints what differs between two thin devices.",
    options: [
      ...TOOL,
      { flags: ["--thin1", "--snap1"], metavar: "ID", required: true, help: "The one." },
      { flags: ["--thin2", "--snap2"], metavar: "ID", required: true, help: "The other." },
      { flags: ["--verbose"], help: "With data blocks." },
      SNAPSHOT,
      SNAPSHOT_BLOCK,
    ],
    words: ["[METADATA]"],
  },
  rmap: {
    help: "Prints who uses given data blocks.",
    options: [
      ...TOOL,
      {
        flags: ["--region"],
        metavar: "B..E",
        repeatable: true,
        required: true,
        help: "Data blocks from B to before E.",
      },
    ],
    words: ["[METADATA]"],
  },
  trim: { help: "Discards the data blocks that nothing uses; the pool is at rest.", options: POOL, words: [] },
  "metadata-size": {
    help: "Prints how large the metadata device of a pool should be.",
    options: [
      { flags: ["-b", "--block-size"], metavar: "SIZE", required: true, help: "Size of data blocks." },
      { flags: ["-s", "--pool-size"], metavar: "SIZE", required: true, help: "Size of the data device." },
      { flags: ["-m", "--max-thins"], metavar: "N", required: true, help: "Thin devices and snapshots." },
      {
        flags: ["-u", "--unit"],
        metavar: "UNIT",
        choices: ESTIMATE_UNITS,
        help: "Unit of the answer; default: sectors.",
      },
      {
        flags: ["-n", "--numeric-only"],
        metavar: "short|long",
        choices: ["short", "long", "plain"],
        bare: "plain",
        help: "Print the number only, or with its unit.",
      },
    ],
    words: [],
  },
};

/** Other spellings. */
const ALIASES: { readonly [name: string]: string } = {
  "reserve-metadata-snapshot": "reserve-metadata-snap",
  "release-metadata-snapshot": "release-metadata-snap",
};

export interface ParsedThin {
  name: string;
  args: Readonly<Record<string, unknown>>;
  words: (string | undefined)[];
}

/** `-m56` and `--metadata-snap=56` carry a block that the parser's switch cannot take. */
function withSnapshotBlock(name: string, words: readonly string[]): string[] {
  const takesBlock = THIN_COMMANDS[name]?.options.includes(SNAPSHOT_BLOCK) === true;
  return words.map((word) =>
    takesBlock ? word.replace(/^(?:-m|--metadata-snap(?:shot)?=)(\d+)$/, "--metadata-snap-block=$1") : word,
  );
}

/** Parses what follows `vdo thin`. Throws {@link ParseEnd} after help or an error was printed. */
export function parseThin(words: readonly string[], streams: Streams, version: string): ParsedThin {
  const [given, ...rest] = words;
  const name = given === undefined ? undefined : (ALIASES[given] ?? given);
  if (name === undefined || name === "-h" || name === "--help") {
    (name === undefined ? streams.err : streams.out)(summary());
    throw new ParseEnd(name === undefined ? FAILURE_STATUS : 0);
  }
  const grammar = Object.hasOwn(THIN_COMMANDS, name) ? THIN_COMMANDS[name] : undefined;
  if (grammar === undefined) {
    streams.err(`Unknown command: ${name}\n${summary()}`);
    throw new ParseEnd(FAILURE_STATUS);
  }
  if (rest.includes("-V") || rest.includes("--version")) {
    streams.out(`${version}\n`);
    throw new ParseEnd(0);
  }
  const parser = new CommandParser(streams, { prog: `vdo thin ${name}`, description: grammar.help });
  parser.add_argument("-V", "--version", { action: "store_true", help: "Print the version." });
  for (const { flags, metavar, choices, bare, required, repeatable, help } of grammar.options) {
    const isSwitch = metavar === undefined && choices === undefined;
    parser.add_argument(...flags, {
      help,
      ...(isSwitch ? { action: "store_true" } : {}),
      ...(repeatable === true ? { action: "append" } : {}),
      ...(required === true ? { required } : {}),
      ...(metavar === undefined ? {} : { metavar }),
      ...(choices === undefined ? {} : { choices: [...choices] }),
      ...(bare === undefined ? {} : { nargs: "?", const: bare }),
    });
  }
  for (const [index, word] of grammar.words.entries()) {
    const optional = /^\[(.*)\]$/.exec(word)?.[1];
    parser.add_argument(`word${index}`, optional === undefined ? { metavar: word } : { metavar: optional, nargs: "?" });
  }
  try {
    const args = parser.parse_args(withSnapshotBlock(name, rest)) as Record<string, unknown>;
    return {
      name,
      args,
      words: grammar.words.map((_, index) => (args[`word${index}`] ?? undefined) as string | undefined),
    };
  } catch (error) {
    if (error instanceof ParseEnd && error.status !== 0) throw new ParseEnd(FAILURE_STATUS);
    throw error;
  }
}

function summary(): string {
  const lines = Object.entries(THIN_COMMANDS).map(([name, { help }]) => `  ${name.padEnd(22)} ${help}`);
  return `usage: vdo thin COMMAND …\n${lines.join("\n")}\n`;
}
