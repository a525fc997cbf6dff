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

/** Every option, with what its help says. */
export const OPTIONS: readonly (GetoptOption & { flag: Flag; help: string })[] = [
  { long: "help", short: "h", flag: "help", help: "print this help message and exit" },
  { long: "all", short: "a", flag: "verbose", help: "same as --verbose" },
  { long: "human-readable", short: "r", flag: "human", help: "print sizes with units of 1024: 2.0G" },
  { long: "si", short: "s", flag: "si", help: "print sizes with units of 1000; implies --human-readable" },
  { long: "verbose", short: "v", flag: "verbose", help: "print every statistic, one per line" },
  { long: "version", short: "V", flag: "version", help: "print the version and exit" },
  { long: "json", flag: "json", help: "print every statistic as JSON" },
  { long: "prometheus", flag: "prometheus", help: "print every statistic in the text format of Prometheus" },
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
