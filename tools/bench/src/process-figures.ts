/** CPU time and memory of a process, from /proc. */
import { readFileSync } from "node:fs";

/** Linux reports times in ticks of 1/100 s on every architecture (USER_HZ). */
const TICKS_PER_SECOND = 100;

/** Seconds of CPU, user and system, that the process took so far, ended threads included; in steps of 10 ms. */
export function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  // The second field is the program's name in brackets and may hold spaces.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** The most memory the process ever held, in MiB. */
export function peakMebibytes(pid: number): number {
  const line = /VmHWM:\s*(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "latin1"));
  return Math.round(Number(line?.[1] ?? 0) / 1024);
}
