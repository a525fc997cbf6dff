/** The page's end of the HTTP interface: every request carries the token, and nothing goes anywhere else. */
import type { Refusal, VolumeHistory, VolumeSnapshot } from "../snapshot.ts";

/** The daemon answered, and said no. */
export class Refused extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

const KEPT = "vdo-token";

let token = "";

/** Takes the token out of the address bar; after a reload it is the one of before. Kept in this tab alone. */
export function takeToken(): void {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given !== null) {
    history.replaceState(null, "", location.pathname);
    sessionStorage.setItem(KEPT, given);
  }
  token = sessionStorage.getItem(KEPT) ?? "";
}

/** The token as a person entered it. */
export function setToken(text: string): void {
  token = text.trim();
  sessionStorage.setItem(KEPT, token);
}

/** Throws {@link Refused}, or `TypeError` when nobody answers. */
async function ask(path: string, body?: object): Promise<unknown> {
  const response = await fetch(path, {
    method: body === undefined ? "GET" : "POST",
    headers: {
      Authorization: `Bearer ${token}`,
      ...(body === undefined ? {} : { "Content-Type": "application/json" }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    cache: "no-store",
    credentials: "omit",
    redirect: "error",
  });
  const answer = (await response.json()) as unknown;
  if (response.ok) return answer;
  throw new Refused(response.status, (answer as Refusal).error.message);
}

export async function fetchSnapshot(): Promise<VolumeSnapshot> {
  return (await ask("/api/snapshot")) as VolumeSnapshot;
}

export async function fetchHistory(): Promise<VolumeHistory> {
  return (await ask("/api/history")) as VolumeHistory;
}

export async function postSwitch(name: "compression" | "deduplication", enabled: boolean): Promise<VolumeSnapshot> {
  return (await ask(`/api/${name}`, { enabled })) as VolumeSnapshot;
}
