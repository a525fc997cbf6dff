/** Serving a disk: in this process, or in one of its own. */
import { spawn } from "node:child_process";
import { closeSync, fstatSync, mkdirSync, openSync, readFileSync, realpathSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Readable } from "node:stream";
import { type Environment, Paths, type PloopServeOptions, PloopServer, ploopSockets } from "@vdo/manager";
import type { Streams } from "../parser.ts";
import { guidOf } from "./values.ts";

type Arguments = Readonly<Record<string, unknown>>;

/** Starts what `args` say; resolves with the exit status, in the foreground when the disk was stopped. */
export async function startDisk(
  descriptor: string,
  args: Arguments,
  environment: Environment,
  streams: Streams,
): Promise<number> {
  if (args["foreground"] !== true) return startBehind(descriptor, args, environment, streams);
  const options: PloopServeOptions = {
    descriptor,
    environment,
    readOnly: args["read_only"] === true,
    punch: args["punch_holes"] === true,
    onError: (text) => streams.err(`${text}\n`),
    ...(typeof args["uuid"] === "string" ? { guid: guidOf(args["uuid"]) } : {}),
    ...(typeof args["socket"] === "string" ? { socket: resolve(args["socket"]) } : {}),
  };
  const server = await PloopServer.start(options);
  const stop = (): void => {
    server.stop().catch((error: unknown) => streams.err(`${String(error)}\n`));
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, stop);
  streams.out(`ploop disk ${descriptor} is ready at ${server.uri}\n`);
  await server.ended;
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.removeListener(signal, stop);
  return 0;
}

async function startBehind(
  descriptor: string,
  args: Arguments,
  environment: Environment,
  streams: Streams,
): Promise<number> {
  const folder = new Paths(environment).logFolder();
  mkdirSync(folder, { recursive: true });
  const logFile = join(folder, "ploop.log");
  ploopSockets(environment, descriptor);
  const log = openSync(logFile, "a", 0o640);
  const before = fstatSync(log).size;
  const words = ["ploop", "start", "--foreground", descriptor];
  if (args["read_only"] === true) words.push("--read-only");
  if (args["punch_holes"] === true) words.push("--punch-holes");
  if (typeof args["uuid"] === "string") words.push("--uuid", args["uuid"]);
  if (typeof args["socket"] === "string") words.push("--socket", resolve(args["socket"]));
  const child = spawn(process.execPath, [...process.execArgv, realpathSync(process.argv[1] as string), ...words], {
    detached: true,
    stdio: ["ignore", "pipe", log],
    env: environment.variables,
  });
  closeSync(log);
  const ended = new Promise<number>((resolveStatus) => child.once("exit", (code) => resolveStatus(code ?? 1)));
  const output = child.stdout as Readable;
  const line = await firstLine(output);
  output.destroy();
  if (line === undefined) {
    const status = await ended;
    streams.err(readFileSync(logFile).subarray(before).toString());
    streams.err(`${descriptor} could not be started; the log is ${logFile}\n`);
    return status;
  }
  child.unref();
  streams.out(`${line}\n`);
  return 0;
}

/** Undefined when the output ends before. */
function firstLine(stream: Readable): Promise<string | undefined> {
  return new Promise((resolve) => {
    let text = "";
    stream.setEncoding("utf8");
    stream.on("data", (part: string) => {
      text += part;
      if (text.includes("\n")) resolve(text.slice(0, text.indexOf("\n")));
    });
    stream.on("close", () => resolve(undefined));
  });
}
