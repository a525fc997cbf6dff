import { expect, test } from "vitest";
import { type GetoptOption, getopt } from "./getopt.ts";

const OPTIONS: readonly GetoptOption[] = [
  { long: "help", short: "h" },
  { long: "human" },
  { long: "lba", short: "l", valued: true },
];

test.each<[words: string[], options: string[], operands: string[]]>([
  [["a", "--help", "b"], ["help="], ["a", "b"]],
  [["--lba=7", "-l", "8", "-l9"], ["lba=7", "lba=8", "lba=9"], []],
  [["--lb", "x=y", "--lba="], ["lba=x=y", "lba="], []],
  [["-hl", "-1"], ["help=", "lba=-1"], []],
  [["-", "--", "--lba", "-h"], [], ["-", "--lba", "-h"]],
])("%j", (words, options, operands) => {
  const result = getopt(words, OPTIONS);
  expect(result).toEqual({
    options: options.map((text) => ({ long: text.split(/=(.*)/s)[0], value: text.split(/=(.*)/s)[1] })),
    operands,
  });
});

test.each<[words: string[], mistake: string]>([
  [["--bogus=1"], "unrecognized option '--bogus'"],
  [["-x"], "invalid option -- 'x'"],
  [["--h"], "option '--h' is ambiguous; possibilities: '--help' '--human'"],
  [["--help=1"], "option '--help' doesn't allow an argument"],
  [["--lba"], "option '--lba' requires an argument"],
  [["-l"], "option requires an argument -- 'l'"],
])("%j is a mistake", (words, mistake) => {
  expect(getopt(["-h", ...words], OPTIONS)).toMatchObject({ options: [{ long: "help" }], mistake });
});
