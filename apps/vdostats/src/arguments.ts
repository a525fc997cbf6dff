/**
 * Options of `vdostats`, by the rules of GNU getopt: long options may be abbreviated to a unique prefix, short ones may be
 * written together, options and operands come in any order, and `--` ends the options.
 */

export interface StatsArguments {
  help: boolean;
  version: boolean;
  verbose: boolean;
  human: boolean;
  si: boolean;
  json: boolean;
  prometheus: boolean;
  /** Volumes that are asked for; empty for all. */
  operands: string[];
}

type Flag = Exclude<keyof StatsArguments, "operands">;

/** Long options, their short forms, and what they set. */
const OPTIONS: readonly { long: string; short?: string; flag: Flag }[] = [
  { long: "help", short: "h", flag: "help" },
  { long: "all", short: "a", flag: "verbose" },
  { long: "human-readable", short: "r", flag: "human" },
  { long: "si", short: "s", flag: "si" },
  { long: "verbose", short: "v", flag: "verbose" },
  { long: "version", short: "V", flag: "version" },
  { long: "json", flag: "json" },
  { long: "prometheus", flag: "prometheus" },
];

/** The parsed words, or the text of the first mistake. */
export function parseArguments(words: readonly string[]): StatsArguments | { mistake: string } {
  const result: StatsArguments = {
    help: false,
    version: false,
    verbose: false,
    human: false,
    si: false,
    json: false,
    prometheus: false,
    operands: [],
  };
  for (let i = 0; i < words.length; i++) {
    const word = words[i] as string;
    if (word === "--") {
      result.operands.push(...words.slice(i + 1));
      break;
    }
    const mistake = word.startsWith("--") ? setLong(result, word) : setShort(result, word);
    if (mistake !== undefined) return { mistake };
  }
  return result;
}

function setLong(result: StatsArguments, word: string): string | undefined {
  const [name = "", value] = word.slice(2).split(/=(.*)/s);
  const exact = OPTIONS.filter(({ long }) => long === name);
  const found = exact.length > 0 ? exact : OPTIONS.filter(({ long }) => long.startsWith(name));
  const [option] = found;
  if (option === undefined) return `unrecognized option '--${name}'`;
  if (found.length > 1) {
    const possibilities = found.map(({ long }) => `'--${long}'`).join(" ");
    return `option '--${name}' is ambiguous; possibilities: ${possibilities}`;
  }
  if (value !== undefined) return `option '--${option.long}' doesn't allow an argument`;
  result[option.flag] = true;
  return undefined;
}

function setShort(result: StatsArguments, word: string): string | undefined {
  if (!word.startsWith("-") || word === "-") {
    result.operands.push(word);
    return undefined;
  }
  for (const letter of word.slice(1)) {
    const option = OPTIONS.find(({ short }) => short === letter);
    if (option === undefined) return `invalid option -- '${letter}'`;
    result[option.flag] = true;
  }
  return undefined;
}
