/** The manual page vdo(8), made from the tables of subcommands and options. */
import { ALL, COMMON, NAME, type OperandSpec, type OptionSpec, TOOL_DEVICE } from "../options.ts";
import { SUBCOMMANDS, type Subcommand } from "../subcommands.ts";
import { bold, italic, roff } from "./roff.ts";

/** Exit statuses and their meanings. */
const STATUSES: readonly (readonly [number, string])[] = [
  [0, "Success."],
  [1, "A failure without a class of its own; the offline tools have statuses of their own beside it."],
  [2, "The command line is wrong."],
  [4, "The configuration is inconsistent."],
  [5, "The volume or its storage is not in the state that the command needs."],
  [6, "The system failed, or a program is missing."],
  [7, "The user asked for something that is impossible or not allowed."],
];

const VARIABLES: readonly (readonly [string, string])[] = [
  ["VDO_CONF_DIR", "Folder of the configuration file vdoconf.yml."],
  ["VDO_RUN_DIR", "Folder of sockets and states of running volumes."],
  ["VDO_LOG_DIR", "Folder of the daemons' logs."],
  ["VDO_DEV_DIR", "Folder of the links to attached devices."],
];

/** Options that choose the volumes of a subcommand. */
export function selectors({ selects }: Subcommand): OptionSpec[] {
  if (selects === "one" || selects === "optional") return [ALL, NAME];
  if (selects === "storage" || selects === "tool") return [TOOL_DEVICE, NAME];
  if (selects === "name") return [NAME];
  return selects === "all" ? [ALL] : [];
}

const valueText = ({ metavar, choices }: OptionSpec): string => {
  if (choices !== undefined) return `{${choices.join(",")}}`;
  return metavar ?? "";
};

function optionLines(spec: OptionSpec): string[] {
  if (spec.help === undefined) return [];
  const value = valueText(spec);
  const term = spec.flags.map((flag) => bold(flag)).join(", ");
  return [".TP", value === "" ? term : `${term} ${italic(value)}`, roff(spec.help)];
}

function operandText({ metavar, count }: OperandSpec): string {
  if (count === "?") return `[${italic(metavar)}]`;
  return count === "+" ? `${italic(metavar)} ...` : italic(metavar);
}

function subcommandLines(name: string, subcommand: Subcommand): string[] {
  const { help, options, operands = [] } = subcommand;
  const own = [...selectors(subcommand), ...options];
  const words = own.length === 0 ? [] : ["[options]"];
  return [
    `.SS ${name}`,
    [bold(`vdo ${name}`), ...words, ...operands.map(operandText)].join(" "),
    ".PP",
    roff(help),
    ...own.flatMap(optionLines),
    ...operands.flatMap((operand) => [".TP", italic(operand.metavar), roff(operand.help)]),
  ];
}

/** The page as roff. */
export function manPage(): string {
  return `${[
    '.\\" Made from the tables of the program by write-share.ts: change those.',
    '.TH VDO 8 "" "vdo" "System Administration"',
    ".SH NAME",
    "vdo \\- create, run, inspect and rescue VDO volumes in user space",
    ".SH SYNOPSIS",
    `${bold("vdo")} ${italic("command")} [options]`,
    ".SH DESCRIPTION",
    "A VDO volume is a block device that stores equal blocks once, compresses the others and takes no space for zeros.",
    "Each running volume is served by a daemon of its own over the NBD protocol, and may be attached as a device.",
    ".SH COMMANDS",
    ...Object.entries(SUBCOMMANDS).flatMap(([name, subcommand]) => subcommandLines(name, subcommand)),
    ".SH COMMON OPTIONS",
    ...COMMON.flatMap(optionLines),
    ".SH EXIT STATUS",
    ...STATUSES.flatMap(([status, meaning]) => [".TP", bold(String(status)), roff(meaning)]),
    ".SH ENVIRONMENT",
    ...VARIABLES.flatMap(([name, meaning]) => [".TP", bold(name), roff(meaning)]),
    ".SH SEE ALSO",
    `${bold("vdostats")}(8), ${bold("nbd-client")}(8), ${bold("nbdfuse")}(1)`,
  ].join("\n")}\n`;
}
