/** The `vdostats` command: parse, ask the daemons, print. */
import { basename } from "node:path";
import {
  type ClientEnvironment,
  errorText,
  metricsText,
  RunningVolumes,
  type SampledVolume,
  type ShownVolume,
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
  const tell = (error: unknown): void => streams.err(`vdostats: ${errorText(error)}\n`);
  if (args.prometheus) {
    const { found, status } = await collect(args, running, (volume) => running.measure(volume), tell);
    if (found.length > 0) streams.out(await metricsText(found, environment.version));
    return status;
  }
  const { found, status } = await collect(args, running, (volume) => running.sample(volume), tell);
  if (found.length > 0) streams.out(text(found, args));
  return status;
}

/** Asks the volumes meant. The first operand that does not match ends the program; those before it are shown. */
async function collect<T>(
  { operands }: StatsArguments,
  running: RunningVolumes,
  ask: (volume: ShownVolume) => Promise<T>,
  tell: (error: unknown) => void,
): Promise<{ found: T[]; status: number }> {
  const found: T[] = [];
  try {
    if (operands.length === 0) for (const volume of await running.all()) found.push(await ask(volume));
    for (const operand of operands) found.push(await ask(await running.find(operand)));
  } catch (error) {
    tell(error);
    return { found, status: 1 };
  }
  return { found, status: 0 };
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
