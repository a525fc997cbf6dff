/** Builds the parsers from the tables and parses a command line. */
import { type ArgumentParser, SUPPRESS } from "argparse";
import type { Arguments } from "./arguments.ts";
import { ALL, COMMON, NAME, type OptionSpec, TOOL_DEVICE } from "./options.ts";
import { argumentType, CommandParser, OnceAction, ParseEnd, type Streams } from "./parser.ts";
import { SUBCOMMANDS, type Subcommand } from "./subcommands.ts";

/** Exit status of a call without a subcommand. */
const NO_SUBCOMMAND_STATUS = 1;

/** Words that begin commands with a grammar of their own; for help. */
const GROUPS: { readonly [name: string]: string } = {
  ploop: "Disks of ploop images: 'vdo ploop --help' lists what can be done with them.",
  thin: "Thin pools, thin devices and snapshots: 'vdo thin --help' lists what can be done with them.",
};

export interface Parsed {
  subcommand: Subcommand;
  args: Arguments;
}

/** Parses what follows the program's name. Throws {@link ParseEnd} after help, usage or an error was printed. */
export function parseCommandLine(words: readonly string[], streams: Streams): Parsed {
  const top = new CommandParser(streams, { prog: "vdo", usage: "vdo [-h] command ..." });
  const parsers = top.add_subparsers({ metavar: "command" });
  const parserOf = new Map<string, CommandParser>();
  for (const [name, subcommand] of Object.entries(SUBCOMMANDS)) {
    parsers.add_parser(name, { help: subcommand.help, add_help: false });
    parserOf.set(name, subcommandParser(name, subcommand, streams));
  }
  for (const [name, help] of Object.entries(GROUPS)) parsers.add_parser(name, { help, add_help: false });
  const [name, ...rest] = words;
  if (name === undefined) {
    top.print_usage();
    throw new ParseEnd(NO_SUBCOMMAND_STATUS);
  }
  if (name.startsWith("-")) {
    if (name === "-h" || (name.length > 2 && "--help".startsWith(name))) {
      top.print_help();
      throw new ParseEnd(0);
    }
    return top.error(`unrecognized arguments: ${words.join(" ")}`);
  }
  const subcommand = Object.hasOwn(SUBCOMMANDS, name) ? SUBCOMMANDS[name] : undefined;
  if (subcommand === undefined) {
    const choices = Object.keys(SUBCOMMANDS).map((choice) => `'${choice}'`);
    return top.error(`argument command: invalid choice: '${name}' (choose from ${choices.join(", ")})`);
  }
  const parser = parserOf.get(name) as CommandParser;
  const args = parser.parse_args(rest) as Arguments;
  checkTogether(parser, subcommand, args);
  return { subcommand, args };
}

function subcommandParser(
  name: string,
  { help, selects, options, operands = [] }: Subcommand,
  streams: Streams,
): CommandParser {
  const parser = new CommandParser(streams, { prog: `vdo ${name}`, description: help });
  if (selects === "one" || selects === "optional") {
    const group = parser.add_mutually_exclusive_group({ required: selects === "one" });
    for (const spec of [ALL, NAME]) addOption(group as unknown as ArgumentParser, spec);
  } else if (selects === "storage") {
    const group = parser.add_mutually_exclusive_group({ required: true });
    for (const spec of [TOOL_DEVICE, NAME]) addOption(group as unknown as ArgumentParser, spec);
  } else if (selects === "tool") {
    const group = parser.add_mutually_exclusive_group();
    for (const spec of [TOOL_DEVICE, NAME]) addOption(group as unknown as ArgumentParser, spec);
  } else if (selects === "name") addOption(parser, { ...NAME, required: true });
  else if (selects === "all") addOption(parser, ALL);
  for (const spec of [...options, ...commonOptions(options)]) addOption(parser, spec);
  for (const { name: operand, metavar, count, help: text } of operands) {
    parser.add_argument(operand, { metavar, help: text, ...(count === 1 ? {} : { nargs: count }) });
  }
  return parser;
}

/** The common options, without the flags that a subcommand has for itself: `-f` is --force for the formatter. */
export function commonOptions(own: readonly OptionSpec[]): OptionSpec[] {
  const taken = new Set(own.flatMap(({ flags }) => flags));
  return COMMON.flatMap((spec) => {
    const [first, ...more] = spec.flags.filter((flag) => !taken.has(flag));
    return first === undefined ? [] : [{ ...spec, flags: [first, ...more] as const }];
  });
}

function addOption(parser: ArgumentParser, spec: OptionSpec): void {
  const help = spec.help?.replaceAll("%", "%%") ?? SUPPRESS;
  if (spec.unsets !== undefined) {
    parser.add_argument(...spec.flags, { action: "store_const", const: false, dest: spec.unsets, help });
    return;
  }
  if (spec.metavar === undefined && spec.choices === undefined) {
    parser.add_argument(...spec.flags, { action: "store_true", help });
    return;
  }
  parser.add_argument(...spec.flags, {
    action: spec.repeatable === true ? "append" : OnceAction,
    help,
    ...(spec.required === true ? { required: true } : {}),
    ...(spec.metavar === undefined ? {} : { metavar: spec.metavar }),
    ...(spec.choices === undefined ? {} : { choices: [...spec.choices] }),
    ...(spec.check === undefined ? {} : { type: argumentType(spec.check) }),
  });
}

/** What no group of argparse can say: options that exclude each other, and subcommands that need any option at all. */
function checkTogether(parser: CommandParser, { selects, options, atLeastOne }: Subcommand, args: Arguments): void {
  if (selects === "tool") {
    const given = [args["device"], args["name"], args["file"]].filter(isGiven).length;
    if (given === 0) parser.error("one of the arguments --device -n/--name FILE is required");
    if (given > 1) parser.error("argument FILE: not allowed with argument --device or -n/--name");
  }
  if (args["foreground"] === true && args["all"] === true) {
    parser.error("argument --foreground: not allowed with argument -a/--all");
  }
  if (atLeastOne === undefined || options.some(({ flags }) => isGiven(args[flags[0].slice(2)]))) return;
  parser.error(`options must be specified from: ${atLeastOne.map(({ flags }) => flags[0]).join(", ")}`);
}

function isGiven(value: unknown): boolean {
  return value !== undefined && value !== null;
}
