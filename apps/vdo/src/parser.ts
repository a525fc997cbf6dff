/**
 * Command-line parsing with the rules and texts of the legacy manager, which are those of Python's argparse: unique
 * prefixes of long options, `--opt=value` or `--opt value`, any order. Two rules are the manager's own: a valued option
 * given twice is an error, and unknown options are reported by the subcommand.
 */

import type { Readable, Writable } from "node:stream";
import { errorMessage } from "@vdo/base";
import type { ValueCheck } from "@vdo/manager";
import { Action, ArgumentParser, type ArgumentParserOptions, ArgumentTypeError, type Namespace } from "argparse";

/** Where output goes. */
export interface Streams {
  out(text: string): void;
  err(text: string): void;
  /** Standard error is a terminal, on which a line of progress may be kept. */
  isTerminal?: boolean;
  /** For content that is no text. */
  stdin?: Readable;
  stdout?: Writable;
}

/** Thrown to end parsing; `status` is the exit status. */
export class ParseEnd extends Error {
  readonly status: number;

  constructor(status: number) {
    super(`exit status ${status}`);
    this.status = status;
  }
}

/** Exit status of every mistake on the command line. */
export const USAGE_STATUS = 2;

/** A parser that writes to given streams and throws {@link ParseEnd} where argparse would end the process. */
export class CommandParser extends ArgumentParser {
  readonly streams: Streams;

  constructor(streams: Streams, options: ArgumentParserOptions) {
    super({ color: false, ...options });
    this.streams = streams;
  }

  override print_help(): void {
    this.streams.out(this.format_help());
  }

  override print_usage(): void {
    this.streams.out(this.format_usage());
  }

  override exit(status = 0): never {
    throw new ParseEnd(status);
  }

  override error(message: string): never {
    this.streams.err(this.format_usage());
    this.streams.err(`${this.prog}: error: ${message}\n`);
    throw new ParseEnd(USAGE_STATUS);
  }
}

/** Stores a value, and refuses a second one. */
export class OnceAction extends Action {
  override call(parser: ArgumentParser, namespace: Namespace, value: unknown): void {
    const given = givenOptions(namespace);
    if (given.has(this.dest)) parser.error(`option '${this.dest}' was specified more than once`);
    given.add(this.dest);
    namespace[this.dest] = value;
  }
}

const given = new WeakMap<object, Set<string>>();

function givenOptions(namespace: Namespace): Set<string> {
  const known = given.get(namespace) ?? new Set<string>();
  given.set(namespace, known);
  return known;
}

/** Turns a value check into an argparse type: the check's text becomes the argument's error. */
export function argumentType<T>(check: ValueCheck<T>): (text: string) => T {
  return (text) => {
    try {
      return check(text);
    } catch (error) {
      throw new ArgumentTypeError(errorMessage(error));
    }
  };
}
