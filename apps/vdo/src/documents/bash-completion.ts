/** Completion of command lines in bash, made from the tables of subcommands and options. */
import { commonOptions } from "../grammar.ts";
import type { OptionSpec } from "../options.ts";
import { PLOOP_COMMANDS } from "../ploop/grammar.ts";
import { SUBCOMMANDS } from "../subcommands.ts";
import { THIN_COMMANDS } from "../thin/grammar.ts";
import { selectors } from "./man-page.ts";

/** Metavariables of values that are paths. */
const PATHS: ReadonlySet<string> = new Set(["<devicepath>", "<file>", "<pathname>", "<source>"]);

/** What completes the value of an option; undefined for what cannot be guessed. */
function completes({ flags, choices, metavar }: OptionSpec): string | undefined {
  if (choices !== undefined) return `COMPREPLY=($(compgen -W '${choices.join(" ")}' -- "$cur"))`;
  if (flags.includes("--name")) return 'COMPREPLY=($(compgen -W "$(vdo list --all 2>/dev/null)" -- "$cur"))';
  return metavar !== undefined && PATHS.has(metavar) ? 'COMPREPLY=($(compgen -f -- "$cur"))' : undefined;
}

/** Lines for the commands of `vdo thin`: the second word, then the options of each. */
function thinLines(): string[] {
  const cases = Object.entries(THIN_COMMANDS).map(([name, { options }]) => {
    const flags = [...options.flatMap((option) => option.flags), "--help"];
    return `      ${name}) options='${flags.join(" ")}' ;;`;
  });
  return [
    `  if [[ \${COMP_WORDS[1]} == "thin" ]]; then`,
    "    if ((COMP_CWORD == 2)); then",
    `      COMPREPLY=($(compgen -W '${Object.keys(THIN_COMMANDS).join(" ")} --help' -- "$cur"))`,
    "      return",
    "    fi",
    '    if [[ $prev == "--name" ]]; then',
    `      COMPREPLY=($(compgen -W "$(vdo thin list 2>/dev/null | sed '1d; s/ .*//')" -- "$cur"))`,
    "      return",
    "    fi",
    `    case "\${COMP_WORDS[2]}" in`,
    ...cases,
    "      *) return ;;",
    "    esac",
    `    if [[ $cur == -* ]]; then COMPREPLY=($(compgen -W "$options" -- "$cur")); else COMPREPLY=($(compgen -f -- "$cur")); fi`,
    "    return",
    "  fi",
  ];
}

/** Lines for the commands of `vdo ploop`, likewise. */
function ploopLines(): string[] {
  const cases = Object.entries(PLOOP_COMMANDS).map(([name, { options }]) => {
    const flags = [...options.flatMap((option) => option.flags), "--help"];
    return `      ${name}) options='${flags.join(" ")}' ;;`;
  });
  return [
    `  if [[ \${COMP_WORDS[1]} == "ploop" ]]; then`,
    "    if ((COMP_CWORD == 2)); then",
    `      COMPREPLY=($(compgen -W '${Object.keys(PLOOP_COMMANDS).join(" ")} --help' -- "$cur"))`,
    "      return",
    "    fi",
    `    case "\${COMP_WORDS[2]}" in`,
    ...cases,
    "      *) return ;;",
    "    esac",
    `    if [[ $cur == -* ]]; then COMPREPLY=($(compgen -W "$options" -- "$cur")); else COMPREPLY=($(compgen -f -- "$cur")); fi`,
    "    return",
    "  fi",
  ];
}

/** The script, to be put where bash-completion looks. */
export function bashCompletion(): string {
  const values = new Map<string, string>();
  const cases: string[] = [];
  for (const [name, subcommand] of Object.entries(SUBCOMMANDS)) {
    const options = [...selectors(subcommand), ...subcommand.options, ...commonOptions(subcommand.options)].filter(
      ({ help }) => help !== undefined,
    );
    for (const option of options) {
      const action = completes(option);
      if (action !== undefined) for (const flag of option.flags) values.set(flag, action);
    }
    const flags = [...new Set([...options.flatMap((option) => option.flags), "--help"])];
    cases.push(`    ${name}) options='${flags.join(" ")}' ;;`);
  }
  const actions = new Map<string, string[]>();
  for (const [flag, action] of values) actions.set(action, [...(actions.get(action) ?? []), flag]);
  return `${[
    "# bash completion for vdo(8), made from the tables of the program by write-share.ts: change those.",
    "_vdo() {",
    `  local cur="\${COMP_WORDS[COMP_CWORD]}" prev="\${COMP_WORDS[COMP_CWORD - 1]}" options`,
    "  COMPREPLY=()",
    "  # Bash takes the sign apart from the option and from the value.",
    `  if [[ $cur == "=" ]]; then cur=""; elif [[ $prev == "=" ]]; then prev="\${COMP_WORDS[COMP_CWORD - 2]}"; fi`,
    "  if ((COMP_CWORD == 1)); then",
    `    COMPREPLY=($(compgen -W '${Object.keys(SUBCOMMANDS).join(" ")} ploop thin --help' -- "$cur"))`,
    "    return",
    "  fi",
    ...thinLines(),
    ...ploopLines(),
    '  case "$prev" in',
    ...[...actions].map(([action, flags]) => `    ${flags.join(" | ")})\n      ${action}\n      return\n      ;;`),
    "  esac",
    `  case "\${COMP_WORDS[1]}" in`,
    ...cases,
    "    *) return ;;",
    "  esac",
    '  if [[ $cur == -* || -z $cur ]]; then COMPREPLY=($(compgen -W "$options" -- "$cur")); fi',
    `  if ((\${#COMPREPLY[@]} == 0)); then COMPREPLY=($(compgen -f -- "$cur")); fi`,
    "}",
    "complete -o filenames -F _vdo vdo",
  ].join("\n")}\n`;
}
