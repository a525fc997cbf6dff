/** `vdo thin`: runs one command. */
import { errorMessage } from "@vdo/base";
import type { Environment } from "@vdo/manager";
import { ParseEnd, type Streams } from "../parser.ts";
import type { Command } from "./call.ts";
import { FAILURE_STATUS, parseThin } from "./grammar.ts";
import { POOL_COMMANDS } from "./pool-commands.ts";
import { STREAM_COMMANDS } from "./stream-commands.ts";
import { TOOL_COMMANDS } from "./tool-commands.ts";

const COMMANDS: { readonly [name: string]: Command } = { ...POOL_COMMANDS, ...STREAM_COMMANDS, ...TOOL_COMMANDS };

/** Runs `vdo thin WORDS`; resolves with the exit status. */
export async function runThin(words: readonly string[], streams: Streams, environment: Environment): Promise<number> {
  try {
    const parsed = parseThin(words, streams, environment.version);
    return (await (COMMANDS[parsed.name] as Command)({ ...parsed, streams, environment })) ?? 0;
  } catch (error) {
    if (error instanceof ParseEnd) return error.status;
    streams.err(`vdo thin: ${errorMessage(error)}\n`);
    return FAILURE_STATUS;
  }
}
