/**
 * Command lines by the rules and with the texts of GNU getopt_long: long options may be abbreviated to a unique prefix, short
 * ones may be written together, options and operands come in any order, and `--` ends the options.
 */

export interface GetoptOption {
  long: string;
  /** One letter. */
  short?: string;
  /** A value follows. */
  valued?: boolean;
}

/** An option that was given, under its long name. */
export interface GivenOption {
  long: string;
  value: string;
}

export interface GetoptResult {
  /** In the order of the command line, up to the first mistake. */
  options: GivenOption[];
  operands: string[];
  /** Text of the first mistake. */
  mistake?: string;
}

/** Reads `words` by `options`. Never throws: a mistake ends the reading, and is in the result. */
export function getopt(words: readonly string[], options: readonly GetoptOption[]): GetoptResult {
  return new Reader(words, options).read();
}

class Reader {
  readonly #words: string[];
  readonly #known: readonly GetoptOption[];
  readonly #result: GetoptResult = { options: [], operands: [] };

  constructor(words: readonly string[], known: readonly GetoptOption[]) {
    this.#words = [...words];
    this.#known = known;
  }

  read(): GetoptResult {
    for (let word = this.#words.shift(); word !== undefined; word = this.#words.shift()) {
      if (word === "--") {
        this.#result.operands.push(...this.#words);
        break;
      }
      const mistake = word.startsWith("--") ? this.#long(word) : this.#short(word);
      if (mistake !== undefined) return { ...this.#result, mistake };
    }
    return this.#result;
  }

  #long(word: string): string | undefined {
    const [name = "", value] = word.slice(2).split(/=(.*)/s);
    const exact = this.#known.filter(({ long }) => long === name);
    const found = exact.length > 0 ? exact : this.#known.filter(({ long }) => long.startsWith(name));
    const [option] = found;
    if (option === undefined) return `unrecognized option '--${name}'`;
    if (found.length > 1) {
      const possibilities = found.map(({ long }) => `'--${long}'`).join(" ");
      return `option '--${name}' is ambiguous; possibilities: ${possibilities}`;
    }
    if (option.valued !== true && value !== undefined) return `option '--${option.long}' doesn't allow an argument`;
    return this.#take(option, value, `option '--${option.long}' requires an argument`);
  }

  #short(word: string): string | undefined {
    if (!word.startsWith("-") || word === "-") {
      this.#result.operands.push(word);
      return undefined;
    }
    for (let at = 1; at < word.length; at++) {
      const letter = word[at] as string;
      const option = this.#known.find(({ short }) => short === letter);
      if (option === undefined) return `invalid option -- '${letter}'`;
      const rest = option.valued === true && at + 1 < word.length ? word.slice(at + 1) : undefined;
      const mistake = this.#take(option, rest, `option requires an argument -- '${letter}'`);
      if (mistake !== undefined || rest !== undefined) return mistake;
    }
    return undefined;
  }

  /** Notes an option; a value that is not in its own word is the next word. */
  #take({ long, valued }: GetoptOption, given: string | undefined, missing: string): string | undefined {
    const value = valued === true ? (given ?? this.#words.shift()) : "";
    if (value === undefined) return missing;
    this.#result.options.push({ long, value });
    return undefined;
  }
}
