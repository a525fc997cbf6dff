export { parseArguments, type StatsArguments } from "./arguments.ts";
export { type RunOptions, runVdostats } from "./run.ts";
