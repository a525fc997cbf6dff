/** What a check found. */

/**
 * - `fatal`: the metadata must be repaired before use.
 * - `non-fatal`: space is lost or a node is badly filled; use is safe, leaks can be fixed in place.
 * - `warning`: unusual, and nothing that the kernel or thin_check judges.
 */
export type Severity = "fatal" | "non-fatal" | "warning";

export interface CheckProblem {
  severity: Severity;
  /** The structure, with the way to it. */
  structure: string;
  text: string;
}

/** Problems told one by one; the rest is counted, so that a ruined device does not fill memory. */
export const PROBLEMS_MAX = 1000;

export class CheckLog {
  readonly problems: CheckProblem[] = [];
  readonly counts: Record<Severity, number> = { fatal: 0, "non-fatal": 0, warning: 0 };

  fatal(structure: string, text: string): void {
    this.#add({ severity: "fatal", structure, text });
  }

  nonFatal(structure: string, text: string): void {
    this.#add({ severity: "non-fatal", structure, text });
  }

  warning(structure: string, text: string): void {
    this.#add({ severity: "warning", structure, text });
  }

  #add(problem: CheckProblem): void {
    this.counts[problem.severity]++;
    if (this.problems.length < PROBLEMS_MAX) this.problems.push(problem);
  }
}
