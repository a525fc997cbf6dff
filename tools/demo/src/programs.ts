/** The real programs that the demo runs: `vdo`, `vdostats`, and nbdcopy where it is installed. */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../../", import.meta.url));

const BINARIES = {
  vdo: `${root}apps/vdo/bin/vdo.js`,
  vdostats: `${root}apps/vdostats/bin/vdostats.js`,
} as const;

export interface Command {
  name: keyof typeof BINARIES;
  words: readonly string[];
  env: Record<string, string>;
}

/** Runs a command of ours as a shell would, shows it and what it prints, and returns its standard output. */
export function ours(name: Command["name"], words: Command["words"], env: Command["env"]): string {
  console.log(`\n$ ${name} ${words.join(" ")}`);
  const output = oursQuietly({ name, words, env });
  process.stdout.write(output);
  return output;
}

/** As {@link ours}, but shows nothing. */
export function oursQuietly({ name, words, env }: Command): string {
  const result = spawnSync(process.execPath, [BINARIES[name], ...words], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...env },
  });
  process.stderr.write(result.stderr);
  if (result.status !== 0) throw new Error(`${name} ${words[0]} failed with status ${result.status ?? result.signal}`);
  return result.stdout;
}

/** Runs a program of the system; throws when it fails. */
export function run(program: string, words: readonly string[]): void {
  console.log(`\n$ ${program} ${words.join(" ")}`);
  const result = spawnSync(program, words, { stdio: ["ignore", "inherit", "inherit"] });
  if (result.status !== 0) throw new Error(`${program} failed with status ${result.status ?? result.signal}`);
}
