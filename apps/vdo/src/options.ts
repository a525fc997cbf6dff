/** Every option of every subcommand: flags, metavariable, check, default and help, as data. */
import { type Stats, statSync } from "node:fs";
import {
  ATTACH_CHOICES,
  blockMapCacheSize,
  ENABLED_CHOICES,
  IMAGE_FORMATS,
  indexMemory,
  integer,
  LOG_LEVELS,
  logicalSize,
  maxDiscardSize,
  physicalSize,
  skipHeader,
  slabSize,
  startTimeout,
  statusPage,
  storageName,
  uuid,
  type ValueCheck,
  volumeName,
  WRITE_POLICIES,
} from "@vdo/manager";

/** Words of a command line that belong to no option. */
export interface OperandSpec {
  name: string;
  metavar: string;
  /** One or more, exactly one, or at most one. */
  count: "+" | 1 | "?";
  help: string;
}

export interface OptionSpec {
  flags: readonly [string, ...string[]];
  /** Absent for a switch. */
  metavar?: string;
  check?: ValueCheck<unknown>;
  choices?: readonly string[];
  /** May be given several times; the values come as a list. */
  repeatable?: true;
  fallback?: string;
  required?: boolean;
  /** Absent for an option that help does not show. */
  help?: string;
  /** A switch that takes back another one, of this name: the last of the two counts. */
  unsets?: string;
  /** Why the option has no effect; it is taken for the sake of old callers, with a warning. */
  ignored?: string;
}

const enabled = (flag: string, fallback: string, help: string): OptionSpec => ({
  flags: [flag],
  choices: ENABLED_CHOICES,
  help: `${help} The default is ${fallback}.`,
});

const threads = (
  flag: string,
  check: ValueCheck<number>,
  range: string,
  fallback: number,
  help: string,
): OptionSpec => ({
  flags: [flag],
  metavar: "<threadCount>",
  check,
  help: `${help} ${range}; the default is ${fallback}.`,
});

/** A file that is written: neither a folder nor a block device. One that cannot be looked at fails where it is used. */
const outputFile: ValueCheck<string> = (path) => {
  const stats = lookAt(path);
  if (stats?.isDirectory() === true) throw new Error(`${path} is a directory`);
  if (stats?.isBlockDevice() === true) throw new Error(`${path} is a block device`);
  return path;
};

function lookAt(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch {
    return undefined;
  }
}

export const ALL: OptionSpec = { flags: ["-a", "--all"], help: "Acts on every volume of the configuration file." };
export const NAME: OptionSpec = {
  flags: ["-n", "--name"],
  metavar: "<volume>",
  check: volumeName,
  help: "The volume's name: letters, digits and #+.:@_-, not starting with a dash.",
};

export const COMMON: readonly OptionSpec[] = [
  {
    flags: ["-f", "--confFile"],
    metavar: "<file>",
    check: outputFile,
    help: "The configuration file. The default is $VDO_CONF_DIR/vdoconf.yml; without VDO_CONF_DIR it is /etc/vdoconf.yml for root and $XDG_CONFIG_HOME/vdo/vdoconf.yml for others.",
  },
  { flags: ["--logfile"], metavar: "<pathname>", check: outputFile, help: "Appends what is done to this file." },
  { flags: ["--verbose"], help: "Prints the steps as they are taken." },
  { flags: ["-d", "--debug"] },
];

export const FORCE_CREATE: OptionSpec = {
  flags: ["--force"],
  help: "Formats even storage that holds a file system, a partition table, another volume or the like.",
};
export const PENDING: OptionSpec = {
  flags: ["--pending"],
  help: "Shows settings that a running volume gets at its next start in brackets behind those that it has.",
};
export const FORCE_STOP: OptionSpec = {
  flags: ["--force"],
  help: "Unmounts a mounted volume first, and cuts off clients that are connected.",
};
export const FORCE_REMOVE: OptionSpec = {
  flags: ["--force"],
  help: "Removes a volume that is mounted, whose storage is missing, or whose creation was interrupted; also clears the first block of a regular file.",
};

export const DEVICE: OptionSpec = {
  flags: ["--device"],
  metavar: "<devicepath>",
  check: storageName,
  required: true,
  help: "The storage: absolute path of a block device or of a regular file, number of a block device (MAJOR:MINOR), or an NBD URI (nbd://HOST[:PORT]/[EXPORT] or nbd+unix:///[EXPORT]?socket=PATH). A connection that breaks is made anew.",
};

/** The storage of an offline tool, in place of a volume's name. */
export const TOOL_DEVICE: OptionSpec = {
  flags: ["--device"],
  metavar: "<devicepath>",
  check: storageName,
  help: "The storage of a volume that is not running: absolute path of a block device or of a regular file, number of a block device (MAJOR:MINOR), or an NBD URI.",
};
export const SUMMARY: OptionSpec = {
  flags: ["-s", "--summary"],
  unsets: "verbose",
  help: "Prints a summary of what is wrong: the default.",
};
/** The common option, with the short form that the tools have. */
export const VERBOSE: OptionSpec = { flags: ["-v", "--verbose"], help: "Prints what is found or done, one by one." };
export const DRY_RUN: OptionSpec = { flags: ["--dryRun"], help: "Only reports what would be lost; writes nothing." };

export const ATTACH: OptionSpec = {
  flags: ["--attach"],
  choices: ATTACH_CHOICES,
  help: "How the volume becomes a device: through the kernel's nbd driver, through nbdfuse and a loop device, or not at all (its NBD socket is served in any case). The default is auto (whatever works here) for root and none for others.",
};

export const STATUS_PAGE: OptionSpec = {
  flags: ["--statusPage"],
  metavar: "<page>",
  check: statusPage,
  help: "Shows the running volume, with its switches, to browsers on this machine: enabled (on any free port), or a port of 127.0.0.1. start and status print the URL, with a secret token. The default is disabled.",
};

const SIZES: readonly OptionSpec[] = [
  {
    flags: ["--vdoLogicalSize"],
    metavar: "<megabytes>",
    check: logicalSize,
    help: "The size that users of the volume see, at most 4096T; a suffix of S, B, K, M, G, T, P or E replaces megabytes. By default as large as the storage holds without savings.",
  },
  {
    flags: ["--vdoSlabSize"],
    metavar: "<megabytes>",
    check: slabSize,
    help: "The unit in which a volume grows: a power of two, 128M to 32G. The default is 2G; a volume has at most 8192 slabs.",
  },
];

const INDEX: readonly OptionSpec[] = [
  {
    flags: ["--indexMem"],
    metavar: "<gigabytes>",
    check: indexMemory,
    help: "The memory of the deduplication index: 0.25, 0.5, 0.75, or a whole number of gigabytes up to 1024. The default is 0.25.",
  },
  enabled(
    "--sparseIndex",
    "disabled",
    "Keeps ten times as many records in the same memory, finding old duplicates less surely.",
  ),
];

/** Options that `create` and `import` share. */
const VOLUME: readonly OptionSpec[] = [
  enabled("--activate", "enabled", "Whether the volume is started now and by start --all."),
  ATTACH,
  {
    flags: ["--blockMapCacheSize"],
    metavar: "<megabytes>",
    check: blockMapCacheSize,
    help: "The memory for pages of the block map, at least 128M and less than 16T. The default is 128M.",
  },
  {
    flags: ["--blockMapPeriod"],
    metavar: "<period>",
    check: integer(1, 16380),
    help: "How long changed pages of the block map may wait to be written, 1 to 16380; a smaller value shortens recovery. The default is 16380.",
  },
  enabled("--compression", "enabled", "Whether new data is compressed."),
  enabled("--deduplication", "enabled", "Whether new data is deduplicated."),
  enabled(
    "--discardStorage",
    "disabled",
    "Whether freed blocks are given back to the storage, by holes in a file (fallocate), discards of a block device (blkdiscard) or TRIM of an NBD export.",
  ),
  enabled("--emulate512", "disabled", "Whether clients may use 512-byte sectors."),
  {
    flags: ["--maxDiscardSize"],
    metavar: "<megabytes>",
    check: maxDiscardSize,
    help: "The largest discard, at least 4K and less than 4G. The default is 4K.",
  },
  {
    flags: ["--onFull"],
    metavar: "<command>",
    check: (text) => text,
    help: "A shell command that is run at 80 % of the physical size and at each 5 % more, with the volume's name and the percentage as its words; an empty string for none.",
  },
  STATUS_PAGE,
  {
    flags: ["--uuid"],
    metavar: "<uuid>",
    check: uuid,
    help: "The volume's UUID; an empty string asks for a new random one.",
  },
  threads("--vdoAckThreads", integer(0, 100), "0 to 100", 1, "Threads that acknowledge requests."),
  {
    flags: ["--vdoBioRotationInterval"],
    metavar: "<ioCount>",
    check: integer(1, 1024),
    help: "Requests to the storage that one thread takes before the next one has its turn. 1 to 1024; the default is 64.",
  },
  threads("--vdoBioThreads", integer(1, 100), "1 to 100", 4, "Threads that send requests to the storage."),
  threads("--vdoCpuThreads", integer(1, 100), "1 to 100", 2, "Threads for hashing and compression."),
  threads("--vdoHashZoneThreads", integer(0, 100), "0 to 100", 1, "Zones of hashes."),
  threads("--vdoLogicalThreads", integer(0, 60), "0 to 60", 1, "Zones of logical addresses."),
  {
    flags: ["--vdoLogLevel"],
    choices: LOG_LEVELS,
    help: "The level of the messages that the daemon logs until it is stopped: this one and worse ones. The default is info.",
  },
  threads("--vdoPhysicalThreads", integer(0, 16), "0 to 16", 1, "Zones of physical addresses."),
  {
    flags: ["--writePolicy"],
    choices: WRITE_POLICIES,
    help: "When a write is acknowledged: when it is durable (sync), or before that, to be durable at the next flush (async; async-unsafe is carried out likewise). The default is auto: sync on a block device without a volatile cache, else async.",
  },
];

/** Options of VDO 6.1 that scripts still send: the read cache came to an end with it. */
const READ_CACHE: readonly OptionSpec[] = [
  { flags: ["--readCache"], choices: ENABLED_CHOICES, ignored: "volumes have no read cache since VDO 6.2" },
  {
    flags: ["--readCacheSize"],
    metavar: "<megabytes>",
    check: (text) => text,
    ignored: "volumes have no read cache since VDO 6.2",
  },
];

const MODIFIABLE: readonly OptionSpec[] = VOLUME.filter(({ flags }) =>
  [
    "--attach",
    "--blockMapCacheSize",
    "--blockMapPeriod",
    "--discardStorage",
    "--maxDiscardSize",
    "--onFull",
    "--statusPage",
    "--uuid",
    "--vdoAckThreads",
    "--vdoBioRotationInterval",
    "--vdoBioThreads",
    "--vdoCpuThreads",
    "--vdoHashZoneThreads",
    "--vdoLogicalThreads",
    "--vdoPhysicalThreads",
  ].includes(flags[0]),
);
/** What `modify` changes. */
export const MODIFY: readonly OptionSpec[] = [...MODIFIABLE, ...READ_CACHE];
export const LOGICAL_SIZE: OptionSpec = { ...(SIZES[0] as OptionSpec), required: true };
export const WRITE_POLICY: OptionSpec = {
  ...(VOLUME.find(({ flags }) => flags[0] === "--writePolicy") as OptionSpec),
  required: true,
};
export const FORCE_CONVERT: OptionSpec = {
  flags: ["--force"],
  required: true,
  help: "Required: a conversion cannot be taken back.",
};

export const PHYSICAL_SIZE: OptionSpec = {
  flags: ["--vdoPhysicalSize"],
  metavar: "<megabytes>",
  check: physicalSize,
  help: "For a regular file: makes it, sparse and of this size, or extends it to this size.",
};

const byFlag = (options: readonly OptionSpec[]): OptionSpec[] =>
  [...options].sort((a, b) => ((a.flags[0] ?? "") < (b.flags[0] ?? "") ? -1 : 1));

export const CREATE: readonly OptionSpec[] = [
  DEVICE,
  ...byFlag([...VOLUME, ...SIZES, ...INDEX, FORCE_CREATE, PHYSICAL_SIZE]),
  ...READ_CACHE,
];
const SKIP_HEADER: OptionSpec = {
  flags: ["--skipHeader"],
  metavar: "<megabytes>",
  check: skipHeader,
  help: "Leaves out so much at the beginning and at the end of the logical space. A volume that LVM made has its header there: 512K, unless allocation/vdo_pool_header_size says otherwise.",
};
export const IMPORT: readonly OptionSpec[] = [DEVICE, ...byFlag([...VOLUME, SKIP_HEADER])];

export const EXPORT: readonly OptionSpec[] = [
  { flags: ["--force"], help: "Replaces an output file that exists." },
  { flags: ["--format"], choices: IMAGE_FORMATS, help: "The form of the image: raw, the default, sparse; or qcow2." },
  {
    flags: ["--output"],
    metavar: "<file>",
    check: outputFile,
    required: true,
    help: "The image that is made.",
  },
  SKIP_HEADER,
];

export const ESTIMATE: readonly OptionSpec[] = [
  enabled("--compression", "enabled", "Whether the volume would compress."),
  enabled("--deduplication", "enabled", "Whether the volume would deduplicate."),
  ...INDEX,
  { flags: ["--json"], help: "Prints the result as JSON." },
];

export const COPY: readonly OptionSpec[] = [
  {
    flags: ["--from"],
    metavar: "<source>",
    check: storageName,
    required: true,
    help: "What is copied: absolute path of a regular file or block device, number of a block device (MAJOR:MINOR), or an NBD URI. It is only read.",
  },
  ...CREATE,
  enabled("--verify", "enabled", "Whether the volume is read back and compared with the source."),
];

const listenAddress: ValueCheck<{ host: string; port: number }> = (text) => {
  const [, host = "", port = ""] = /^(?:(.+):)?(\d{1,5})$/.exec(text) ?? [];
  if (port === "" || Number(port) > 65535) throw new Error("must be a port, or a host and a port: 127.0.0.1:9756");
  return { host: host === "" ? "127.0.0.1" : host.replace(/^\[|\]$/g, ""), port: Number(port) };
};

export const METRICS: readonly OptionSpec[] = [
  {
    flags: ["--listen"],
    metavar: "<address>",
    check: listenAddress,
    help: "Where to listen, as HOST:PORT or a port of this machine's loopback. The default is 127.0.0.1:9756.",
  },
];

export const START: readonly OptionSpec[] = [
  ATTACH,
  {
    flags: ["--foreground"],
    help: "Serves the volume in this process until it is stopped, logging to standard error.",
  },
  {
    flags: ["--forceRebuild"],
    help: "Has a volume in read-only mode rebuilt: 'vdo forceRebuild --dryRun' tells what that loses.",
  },
  { flags: ["--readOnly"], help: "Serves the volume read-only and writes nothing at all to its storage." },
  {
    flags: ["--socketGroup"],
    metavar: "<group>",
    check: (text) => text,
    help: "The group that may connect to the volume's sockets.",
  },
  {
    flags: ["--startTimeout"],
    metavar: "<seconds>",
    check: startTimeout,
    help: "How long to wait until the volume is served; 0, the default, waits without limit.",
  },
  {
    ...STATUS_PAGE,
    help: "Whether and where this start shows the volume to browsers of this machine: disabled, enabled (on any free port), or a port of 127.0.0.1. The default is what create or modify stored.",
  },
];
