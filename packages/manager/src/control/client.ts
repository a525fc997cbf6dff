/** A command's end of the control socket: one connection, one request, one answer. */
import { createConnection } from "node:net";
import { advised, commandError, errnoOf, errorFromStatus } from "../errors.ts";
import { type ControlReply, readLines, toJson } from "./protocol.ts";

/**
 * Asks the daemon behind `path`. Throws the daemon's error with its class, `VDO_WRONG_STATE` when no daemon listens, and
 * `VDO_SYSTEM` when it ends without an answer.
 */
export function controlRequest(
  path: string,
  op: string,
  args: Readonly<Record<string, unknown>> = {},
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path);
    const fail = (error: unknown): void => {
      socket.destroy();
      reject(error);
    };
    socket.on("connect", () => socket.write(`${toJson({ id: 1, op, ...args })}\n`));
    socket.on("error", (error) => {
      const errno = errnoOf(error);
      if (errno === "EACCES") {
        fail(commandError("VDO_USER", `Permission denied: ${path}; the volume belongs to another user`, path, error));
      } else
        fail(
          commandError(
            "VDO_WRONG_STATE",
            advised(`no daemon answers on ${path}`, "vdo list shows the running volumes; vdo start serves one."),
            path,
            error,
          ),
        );
    });
    socket.on("close", () =>
      fail(commandError("VDO_SYSTEM", `the daemon behind ${path} ended without an answer`, path)),
    );
    readLines(socket, (line) => {
      try {
        const reply = JSON.parse(line) as ControlReply;
        if (reply.ok) resolve(reply.result);
        else reject(errorFromStatus(reply.error, path));
        socket.destroy();
      } catch (error) {
        fail(commandError("VDO_SYSTEM", `the daemon behind ${path} sent no valid answer`, path, error));
      }
    });
  });
}

/** As {@link controlRequest}, with `undefined` when no daemon listens there. */
export async function askIfRunning(path: string, op: string): Promise<unknown> {
  try {
    return await controlRequest(path, op);
  } catch (error) {
    if ((error as { code?: unknown }).code === "VDO_WRONG_STATE" && errnoOf(error) !== undefined) return undefined;
    throw error;
  }
}
