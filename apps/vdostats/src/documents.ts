/** Help, manual page and completion of `vdostats`, from the table of its options. */
import { OPTIONS } from "./arguments.ts";

export const USAGE = "vdostats [--help] [--version] [options...] [device [device ...]]";

const PURPOSE = "Display configuration and statistics of VDO volumes";

const DESCRIPTION = [
  "vdostats displays statistics of running VDO volumes: of all of them, or of the",
  "devices given. A device is a volume's name, the path of its device, or the path",
  "of its storage.",
];

/** What `--help` prints. */
export function helpText(): string {
  const terms = OPTIONS.map(({ long, short, help }) => {
    const flags = `${short === undefined ? "    " : `-${short}, `}--${long}`;
    return `  ${flags.padEnd(22)} ${help}`;
  });
  return `${[`vdostats - ${PURPOSE}`, "", `Usage: ${USAGE}`, "", ...DESCRIPTION, "", "Options:", ...terms].join("\n")}\n`;
}

/** Plain text for the manual's formatter: dashes are those of command lines. */
const roff = (text: string): string => text.replaceAll("\\", "\\e").replaceAll("-", "\\-");
const bold = (text: string): string => `\\fB${roff(text)}\\fR`;

/** The page vdostats(8) as roff. */
export function manPage(): string {
  const terms = OPTIONS.flatMap(({ long, short, help }) => [
    ".TP",
    [...(short === undefined ? [] : [bold(`-${short}`)]), bold(`--${long}`)].join(", "),
    roff(`${help.charAt(0).toUpperCase()}${help.slice(1)}.`),
  ]);
  return `${[
    '.\\" Made from the table of the program by write-share.ts: change that.',
    '.TH VDOSTATS 8 "" "vdo" "System Administration"',
    ".SH NAME",
    `vdostats \\- ${PURPOSE.toLowerCase().replace("vdo", "VDO")}`,
    ".SH SYNOPSIS",
    `${bold("vdostats")} [options] [\\fIdevice\\fR ...]`,
    ".SH DESCRIPTION",
    ...DESCRIPTION.map(roff),
    "While a volume is recovered, what is not known yet is shown as N/A.",
    ".SH OPTIONS",
    ...terms,
    ".SH EXIT STATUS",
    "0, or 1 when the command line is wrong, no volume runs, or one of those asked for does not: those before it are shown.",
    ".SH SEE ALSO",
    `${bold("vdo")}(8)`,
  ].join("\n")}\n`;
}

/** Completion for bash: options, and names of running volumes. */
export function bashCompletion(): string {
  const flags = OPTIONS.flatMap(({ long, short }) => [...(short === undefined ? [] : [`-${short}`]), `--${long}`]);
  return `${[
    "# bash completion for vdostats(8), made from the table of the program by write-share.ts: change that.",
    "_vdostats() {",
    `  local cur="\${COMP_WORDS[COMP_CWORD]}"`,
    `  if [[ $cur == -* ]]; then COMPREPLY=($(compgen -W '${flags.join(" ")}' -- "$cur"))`,
    '  else COMPREPLY=($(compgen -W "$(vdo list 2>/dev/null)" -- "$cur")); fi',
    "}",
    "complete -F _vdostats vdostats",
  ].join("\n")}\n`;
}
