/** The `vdostats` command: parse, ask the daemons, print. */
import { basename } from "node:path";
import { errorMessage } from "@vdo/base";
import {
  type ClientEnvironment,
  metricsText,
  RunningVolumes,
  type SampledVolume,
  tableLines,
  verboseLines,
} from "@vdo/manager";
import { parseArguments, type StatsArguments } from "./arguments.ts";

export interface RunOptions {
  /** What follows the program's name. */
  words: readonly string[];
  streams: { out(text: string): void; err(text: string): void };
  environment: ClientEnvironment;
}

const USAGE = "Usage: vdostats [--help] [--version] [options...] [device [device ...]]";

const HELP = `vdostats - Display configuration and statistics of VDO volumes

${USAGE}

vdostats displays statistics of running VDO volumes: of all of them, or of the
devices given. A device is a volume's name, the path of its device, or the path
of its storage.

Options:
  -h, --help             print this help message and exit
  -a, --all              same as --verbose
  -r, --human-readable   print sizes with units of 1024: 2.0G
  -s, --si               print sizes with units of 1000; implies --human-readable
  -v, --verbose          print every statistic, one per line
  -V, --version          print the version and exit
      --json             print every statistic as JSON
      --prometheus       print every statistic in the text format of Prometheus
`;

/** Runs one command line; resolves with the exit status: 0, or 1 for anything that failed. */
export async function runVdostats({ words, streams, environment }: RunOptions): Promise<number> {
  const parsed = parseArguments(words);
  if ("mistake" in parsed) {
    streams.err(`vdostats: ${parsed.mistake}\nvdostats: ${USAGE}\n\n`);
    return 1;
  }
  if (parsed.help) streams.out(HELP);
  else if (parsed.version) streams.out(`vdostats version is: ${environment.version}\n`);
  else return printStatistics(parsed, streams, environment);
  return 0;
}

async function printStatistics(
  args: StatsArguments,
  streams: RunOptions["streams"],
  environment: ClientEnvironment,
): Promise<number> {
  const running = new RunningVolumes(environment);
  const sampled: SampledVolume[] = [];
  let status = 0;
  try {
    if (args.operands.length === 0) {
      for (const volume of await running.all()) sampled.push(await running.sample(volume));
    }
    for (const operand of args.operands) sampled.push(await running.sample(await running.find(operand)));
  } catch (error) {
    // The first operand that does not match ends the program; those before it are shown.
    streams.err(`vdostats: ${errorMessage(error)}\n`);
    status = 1;
  }
  if (sampled.length > 0 && args.prometheus) streams.out(await metricsText(sampled, environment.version));
  else if (sampled.length > 0) streams.out(text(sampled, args));
  return status;
}

function text(sampled: readonly SampledVolume[], { json, verbose, human, si }: StatsArguments): string {
  if (json) return `${JSON.stringify(sampled.map(({ name, statistics }) => ({ name, stats: statistics })))}\n`;
  if (verbose) return lines(sampled.flatMap(({ operand, statistics }) => verboseLines({ name: operand, statistics })));
  const rows = sampled.map(({ operand, statistics }) => ({ name: basename(operand), statistics }));
  return lines(tableLines(rows, si ? "si" : human ? "human" : "plain"));
}

function lines(all: readonly string[]): string {
  return `${all.join("\n")}\n`;
}
