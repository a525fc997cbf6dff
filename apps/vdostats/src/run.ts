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
import { helpText, USAGE } from "./documents.ts";

export interface RunOptions {
  /** What follows the program's name. */
  words: readonly string[];
  streams: { out(text: string): void; err(text: string): void };
  environment: ClientEnvironment;
}

/** Runs one command line; resolves with the exit status: 0, or 1 for anything that failed. */
export async function runVdostats({ words, streams, environment }: RunOptions): Promise<number> {
  const parsed = parseArguments(words);
  if ("mistake" in parsed) {
    streams.err(`vdostats: ${parsed.mistake}\nvdostats: Usage: ${USAGE}\n\n`);
    return 1;
  }
  if (parsed.help) streams.out(helpText());
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
