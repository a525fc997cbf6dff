/** Entry point of the `vdo` command. */
import { readFileSync } from "node:fs";
import { commandEnvironment, runVdo } from "./run.ts";

/** Time for the last answers of a daemon to leave before the process ends, in milliseconds. */
const LINGER_MILLISECONDS = 2000;

const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as {
  version: string;
};
process.exitCode = await runVdo({
  words: process.argv.slice(2),
  streams: {
    out: (text) => process.stdout.write(text),
    err: (text) => process.stderr.write(text),
    isTerminal: process.stderr.isTTY === true,
  },
  environment: commandEnvironment(version, process.argv[1] as string),
});
setTimeout(() => process.exit(), LINGER_MILLISECONDS).unref();
