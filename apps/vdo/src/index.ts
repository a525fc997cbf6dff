export { type Parsed, parseCommandLine } from "./grammar.ts";
export { ParseEnd, type Streams } from "./parser.ts";
export { commandEnvironment, type RunOptions, runVdo } from "./run.ts";
