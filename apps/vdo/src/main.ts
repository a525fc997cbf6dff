/** Entry point of the `vdo` command. */
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { commandEnvironment, runVdo } from "./run.ts";
import { isStandaloneTool, runStandalone } from "./standalone/run.ts";

/** Time for the last answers of a daemon to leave before the process ends, in milliseconds. */
const LINGER_MILLISECONDS = 2000;

const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as {
  version: string;
};
const script = process.argv[1] as string;
/** The name that the program was called by: a link may give it another one. */
const name = basename(script);
const call = {
  words: process.argv.slice(2),
  streams: {
    out: (text: string) => process.stdout.write(text),
    err: (text: string) => process.stderr.write(text),
    isTerminal: process.stderr.isTTY === true,
    get stdin() {
      return process.stdin;
    },
    stdout: process.stdout,
  },
  environment: commandEnvironment(version, script),
};
process.exitCode = await (isStandaloneTool(name) ? runStandalone({ name, ...call }) : runVdo(call));
setTimeout(() => process.exit(), LINGER_MILLISECONDS).unref();
