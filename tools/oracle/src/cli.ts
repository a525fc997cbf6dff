/**
 * Runs a script in the reference machine.
 *
 *   npm run oracle setup -- [--install]
 *   npm run -s oracle run -- [-t SECONDS] [-m MIB] [-c CPUS] [-n] [-p MILLISECONDS] SCRIPT [IMAGE | NBD-URI …]
 *
 * `run` ends with the script's status; 124 when the time ran out, 125 when the power was cut or the machine did not boot.
 */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { installHostPackages, isOracleReady, oracleFolder, runGuest, setupOracle } from "./index.ts";

const USAGE = `usage: oracle setup [--install]
       oracle run [-t SECONDS] [-m MIB] [-c CPUS] [-n] [-p POWER-CUT-MILLISECONDS] SCRIPT [IMAGE | NBD-URI ...]
`;

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      install: { type: "boolean" },
      timeout: { type: "string", short: "t", default: "180" },
      memory: { type: "string", short: "m", default: "2048" },
      cpus: { type: "string", short: "c", default: "2" },
      network: { type: "boolean", short: "n", default: false },
      "power-cut": { type: "string", short: "p" },
    },
  });
  const [command, script, ...disks] = positionals;
  if (command === "setup" && script === undefined) {
    if (values.install) installHostPackages();
    console.error(`oracle: ${isOracleReady() ? "ready in" : "building in"} ${oracleFolder()}`);
    await setupOracle();
    return 0;
  }
  if (command !== "run" || script === undefined) {
    process.stderr.write(USAGE);
    return 2;
  }
  const result = await runGuest({
    script: readFileSync(script, "utf8"),
    disks,
    timeoutSeconds: Number(values.timeout),
    memoryMiB: Number(values.memory),
    cpus: Number(values.cpus),
    network: values.network,
    ...(values["power-cut"] === undefined ? {} : { powerCutAfterMs: Number(values["power-cut"]) }),
  });
  process.stdout.write(result.output);
  if (result.timedOut) return 124;
  if (result.exitCode === null) process.stderr.write(result.console.split("\n").slice(-20).join("\n"));
  return result.exitCode ?? 125;
}

process.exitCode = await main();
