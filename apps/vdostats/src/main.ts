/** Entry point of the `vdostats` command. */
import { readFileSync } from "node:fs";
import { clientEnvironment } from "@vdo/manager";
import { runVdostats } from "./run.ts";

const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as {
  version: string;
};
process.exitCode = await runVdostats({
  words: process.argv.slice(2),
  streams: { out: (text) => process.stdout.write(text), err: (text) => process.stderr.write(text) },
  environment: clientEnvironment(version),
});
