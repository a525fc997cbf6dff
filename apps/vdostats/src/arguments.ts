/** Options of `vdostats`. */
import { type GetoptOption, getopt } from "@vdo/manager";

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

const OPTIONS: readonly (GetoptOption & { flag: Flag })[] = [
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
  const { options, operands, mistake } = getopt(words, OPTIONS);
  if (mistake !== undefined) return { mistake };
  const given = (flag: Flag): boolean =>
    OPTIONS.some((option) => option.flag === flag && options.some(({ long }) => long === option.long));
  return {
    help: given("help"),
    version: given("version"),
    verbose: given("verbose"),
    human: given("human"),
    si: given("si"),
    json: given("json"),
    prometheus: given("prometheus"),
    operands,
  };
}
