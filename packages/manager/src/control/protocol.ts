/**
 * The control protocol between commands and daemons: one JSON object per line each way over a Unix socket.
 *
 *     → {"id":1,"op":"stats"}        ← {"id":1,"ok":true,"result":{…}}
 *     → {"id":2,"op":"stop"}         ← {"id":2,"ok":false,"error":{"code":"VDO_WRONG_STATE","message":"…","status":5}}
 */
import type { Socket } from "node:net";

/** Longest line either side accepts, in bytes; the statistics take about 8 KiB. */
export const LINE_BYTES_MAX = 1024 * 1024;

export interface ControlRequest {
  id: number;
  op: string;
  /** Words of a `message`, options of `stop`, …: see the daemon's operations. */
  [argument: string]: unknown;
}

export interface ControlFailure {
  code: string;
  message: string;
  /** What to do about it, where the message does not say. */
  nextStep?: string | undefined;
  /** Exit status of a command that fails for this reason. */
  status: number;
}

export type ControlReply = { id: number; ok: true; result: unknown } | { id: number; ok: false; error: ControlFailure };

/** Calls `onLine` for each complete line received; destroys the connection when one is too long. */
export function readLines(socket: Socket, onLine: (line: string) => void): void {
  let rest = "";
  socket.setEncoding("utf8");
  socket.on("data", (text: string) => {
    rest += text;
    for (let end = rest.indexOf("\n"); end >= 0; end = rest.indexOf("\n")) {
      const line = rest.slice(0, end);
      rest = rest.slice(end + 1);
      if (line.trim() !== "") onLine(line);
    }
    if (rest.length > LINE_BYTES_MAX) socket.destroy();
  });
}

/** JSON text of a value; integers above 2^53 (bigint) become strings. */
export function toJson(value: unknown): string {
  return JSON.stringify(value, (_key, item: unknown) => (typeof item === "bigint" ? bigintJson(item) : item));
}

function bigintJson(value: bigint): number | string {
  return value <= BigInt(Number.MAX_SAFE_INTEGER) && value >= 0n ? Number(value) : value.toString();
}
