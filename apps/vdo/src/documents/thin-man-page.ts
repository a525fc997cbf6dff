/** The manual page vdo-thin(8), made from the table of commands. */
import { THIN_COMMANDS, type ThinOption } from "../thin/grammar.ts";
import { bold, italic, roff } from "./roff.ts";

function optionLines({ flags, metavar, choices, required, help }: ThinOption): string[] {
  const value = metavar ?? (choices === undefined ? "" : `{${choices.join(",")}}`);
  const term = flags.map((flag) => bold(flag)).join(", ");
  const text = `${help}${required === true ? " Required." : ""}`;
  return [".TP", value === "" ? term : `${term} ${italic(value)}`, roff(text)];
}

function commandLines(name: string): string[] {
  const { help, options, words } = THIN_COMMANDS[name] as (typeof THIN_COMMANDS)[string];
  return [
    `.SS ${name}`,
    [bold(`vdo thin ${name}`), "[options]", ...words.map((word) => italic(word))].join(" "),
    ".PP",
    roff(help),
    ...options.flatMap(optionLines),
  ];
}

/** The page as roff. */
export function thinManPage(): string {
  return `${[
    '.\\" Made from the tables of the program by write-share.ts: change those.',
    '.TH VDO-THIN 8 "" "vdo" "System Administration"',
    ".SH NAME",
    "vdo\\-thin \\- thin pools, thin devices and snapshots in user space",
    ".SH SYNOPSIS",
    `${bold("vdo thin")} ${italic("command")} [options]`,
    ".SH DESCRIPTION",
    "Thin pools on the on\\-disk format of the kernel's dm\\-thin, on files, block devices and NBD exports. A pool is named by",
    `${bold("--name")}, if it stands in the configuration file, or by its devices. A running pool is a daemon that serves each thin`,
    "device over the NBD protocol under its number.",
    ".SH COMMANDS",
    ...Object.keys(THIN_COMMANDS).flatMap(commandLines),
    ".SH EXIT STATUS",
    ".TP",
    bold("0"),
    "Success.",
    ".TP",
    bold("1"),
    "A failure, damage found by check included.",
    ".SH SEE ALSO",
    `${bold("vdo")}(8), ${bold("thin_check")}(8), ${bold("thin_dump")}(8), ${bold("nbd-client")}(8)`,
  ].join("\n")}\n`;
}
