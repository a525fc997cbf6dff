/** One run of fio's NBD engine: the load generator of all workloads (one connection, one job). */
import { spawn } from "node:child_process";

export interface FioResult {
  operations: number;
  /** Time that fio measured, final flush included. */
  seconds: number;
}

export interface FioRun {
  uri: string;
  options: readonly string[];
  /** Data and offsets follow from it. Every slice has its own, so that no data come twice unless they are to. */
  seed: number;
  /** Length of the slice; the whole size is run through once when absent. */
  milliseconds?: number;
}

interface FioJob {
  read: FioSide;
  write: FioSide;
  trim: FioSide;
  job_runtime: number;
  error: number;
}

interface FioSide {
  total_ios: number;
  runtime: number;
}

/** Past this a run is taken for hung. */
const LIMIT_MILLISECONDS = 300_000;

export function runFio({ uri, options, seed, milliseconds }: FioRun): Promise<FioResult> {
  const words = [
    ...["--name=slice", "--ioengine=nbd", `--uri=${uri}`, "--output-format=json", "--thread"],
    ...["--allrandrepeat=0", `--randseed=${seed}`],
    ...options,
    ...(options.some((option) => /^--rw=(rand)?write$/.test(option)) ? ["--end_fsync=1"] : []),
    ...(milliseconds === undefined ? [] : ["--time_based", `--runtime=${milliseconds}ms`]),
  ];
  return new Promise((resolve, reject) => {
    const child = spawn("fio", words, { stdio: ["ignore", "pipe", "pipe"] });
    let text = "";
    let errors = "";
    const limit = setTimeout(() => child.kill("SIGKILL"), LIMIT_MILLISECONDS);
    child.stdout.on("data", (chunk: Buffer) => {
      text += chunk.toString();
    });
    child.stderr.on("data", (chunk: Buffer) => {
      errors += chunk.toString();
    });
    child.once("error", reject);
    child.once("close", (code) => {
      clearTimeout(limit);
      const job = code === 0 ? parseJob(text) : undefined;
      if (job === undefined || job.error !== 0) {
        reject(new Error(`fio ${words.join(" ")} ended with ${code}: ${(errors + text).slice(0, 800)}`));
        return;
      }
      const sides = [job.read, job.write, job.trim];
      const operations = sides.reduce((sum, side) => sum + side.total_ios, 0);
      resolve({ operations, seconds: Math.max(...sides.map((side) => side.runtime)) / 1000 });
    });
  });
}

/** The first lines may be "fio: connected to NBD server"; the report begins with the first brace. */
function parseJob(text: string): FioJob | undefined {
  const report = JSON.parse(text.slice(text.indexOf("{\n"))) as { jobs: FioJob[] };
  return report.jobs[0];
}
