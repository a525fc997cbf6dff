/** The manual page vdo-ploop(8), made from the table of commands. */
import { PLOOP_COMMANDS, type PloopOption } from "../ploop/grammar.ts";
import { bold, italic, roff } from "./roff.ts";

/** Exit statuses, which are the original's. */
const STATUSES: readonly (readonly [number, string])[] = [
  [0, "Success."],
  [4, "A file or the descriptor cannot be opened."],
  [6, "Reading failed."],
  [7, "Writing failed, or there is no space."],
  [11, "An image or the descriptor is damaged."],
  [12, "The system failed, or no daemon runs the disk."],
  [16, "Making data durable failed."],
  [17, "The disk is busy, or what is to be made exists."],
  [37, "The image is in use, or was not closed."],
  [38, "The command line, or what it asks for, is wrong."],
  [43, "There is no such snapshot."],
];

function optionLines({ flags, metavar, choices, required, help }: PloopOption): string[] {
  const value = metavar ?? (choices === undefined ? "" : `{${choices.join(",")}}`);
  const term = flags.map((flag) => bold(flag)).join(", ");
  const text = `${help}${required === true ? " Required." : ""}`;
  return [".TP", value === "" ? term : `${term} ${italic(value)}`, roff(text)];
}

function commandLines(name: string): string[] {
  const { help, details = "", options, words } = PLOOP_COMMANDS[name] as (typeof PLOOP_COMMANDS)[string];
  const shown = words.map((word) => (word.endsWith("…") ? `${italic(word.slice(0, -1))} ...` : italic(word)));
  return [
    `.SS ${name}`,
    [bold(`vdo ploop ${name}`), ...(options.length === 0 ? [] : ["[options]"]), ...shown].join(" "),
    ".PP",
    roff(`${help} ${details}`.trim()),
    ...options.flatMap(optionLines),
  ];
}

/** The page as roff. */
export function ploopManPage(): string {
  return `${[
    '.\\" Made from the tables of the program by write-share.ts: change those.',
    '.TH VDO-PLOOP 8 "" "vdo" "System Administration"',
    ".SH NAME",
    "vdo\\-ploop \\- disks of ploop images, with snapshots, in user space",
    ".SH SYNOPSIS",
    `${bold("vdo ploop")} ${italic("command")} [options]`,
    ".SH DESCRIPTION",
    "Disks of ploop images on the format of the original tools and of QEMU's parallels driver. A disk is a folder with",
    "DiskDescriptor.xml and images; a running disk is a daemon that serves it over the NBD protocol. Commands for a disk that runs",
    "go through its daemon. Sizes are numbers with K, M, G or T, or sectors of 512 bytes.",
    ".SH COMMANDS",
    ...Object.keys(PLOOP_COMMANDS).flatMap(commandLines),
    ".SH EXIT STATUS",
    ...STATUSES.flatMap(([status, meaning]) => [".TP", bold(String(status)), roff(meaning)]),
    ".SH SEE ALSO",
    `${bold("vdo")}(8), ${bold("ploop")}(8), ${bold("qemu-img")}(1), ${bold("nbd-client")}(8)`,
  ].join("\n")}\n`;
}
