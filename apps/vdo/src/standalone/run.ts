/** Runs an offline tool under its own name: reads its words, calls it, prints. */
import { errorMessage } from "@vdo/base";
import { CommandLog, type Environment, type GetoptResult, getopt, Manager } from "@vdo/manager";
import { lines } from "../offline-tools.ts";
import type { Streams } from "../parser.ts";
import { STANDALONE_TOOLS, type StandaloneTool, ValueMistake } from "./tools.ts";

export interface StandaloneOptions {
  /** Name under which the program was called. */
  name: string;
  words: readonly string[];
  streams: Streams;
  environment: Environment;
}

/** True for the name of a tool. */
export function isStandaloneTool(name: string): boolean {
  return Object.hasOwn(STANDALONE_TOOLS, name);
}

/** Resolves with the exit status; 1 for a mistake on the command line and for failures without a status of their own. */
export async function runStandalone({ name, words, streams, environment }: StandaloneOptions): Promise<number> {
  const tool = STANDALONE_TOOLS[name] as StandaloneTool;
  const output = lines(streams);
  const { options, operands, mistake }: GetoptResult = getopt(words, tool.options);
  const help = (): void => streams.out(helpText(name, tool));
  const usage = (text: string): number => {
    if (text !== "") output.err(`${name}: ${text}`);
    output.err(`${tool.isUsagePrefixed ? `${name}: ` : ""}Usage: ${tool.usage}`);
    if (tool.isUsagePrefixed) output.err("");
    return 1;
  };
  const asked = options.find(({ long }) => long === "help" || long === "version");
  if (asked?.long === "help") help();
  if (asked?.long === "version") output.out(`${name} version is: ${environment.version}`);
  if (asked !== undefined) return 0;
  const [first, ...more] = operands;
  if (mistake !== undefined || first === undefined || operands.length !== tool.operands) return usage(mistake ?? "");
  const log = new CommandLog({ program: name, ...streams, wallMicroseconds: environment.clock.wallMicroseconds });
  const manager = new Manager({ environment, log });
  try {
    return await tool.run({ values: valuesOf(options), operands: [first, ...more], manager, output, help });
  } catch (error) {
    if (error instanceof ValueMistake) return usage(error.message);
    output.err(`${name}: ${errorMessage(error)}`);
    return 1;
  }
}

/** Values by name; the names are in the order in which they came last. */
function valuesOf(options: GetoptResult["options"]): Map<string, string[]> {
  const values = new Map<string, string[]>();
  for (const { long, value } of options) {
    const before = values.get(long) ?? [];
    values.delete(long);
    values.set(long, [...before, value]);
  }
  return values;
}

function helpText(name: string, { purpose, usage, options }: StandaloneTool): string {
  const terms = options.map(({ long, short, valued, help }) => {
    const flags = `${short === undefined ? "    " : `-${short}, `}--${long}${valued === true ? "=<value>" : ""}`;
    return `  ${flags.padEnd(36)} ${help}`;
  });
  return `${[`${name} - ${purpose}`, "", `Usage: ${usage}`, "", "Options:", ...terms].join("\n")}\n`;
}
