/** Where a server listens: a Unix socket, a TCP port, or a socket handed over by a service manager. */
import { chmodSync, lstatSync, unlinkSync } from "node:fs";
import { connect, type Server } from "node:net";
import { VdoError } from "@vdo/base";

/** Exactly one of `path`, `port` (with an optional host) and `fd`. */
export type ListenAddress =
  | {
      /** A Unix socket of at most 107 bytes; made so that only its owner can connect. */
      path: string;
    }
  | {
      /** 0 picks a free port. */
      port: number;
      /** Default 127.0.0.1: without TLS the protocol has neither authentication nor integrity. */
      host?: string;
    }
  | {
      /** A listening socket this process inherited (socket activation). */
      fd: number;
    };

/** Longest path of a Unix socket on Linux, in bytes. Node 20 and 22 cut longer ones off silently. */
export const SOCKET_PATH_BYTES_MAX = 107;

/** Binds `listener`. A socket file nobody listens on any more is replaced. */
export async function listenOn(listener: Server, address: ListenAddress): Promise<ListenAddress> {
  if ("path" in address) return listenOnPath(listener, address.path);
  if ("fd" in address) {
    await bound(listener, `fd ${address.fd}`, () => listener.listen({ fd: address.fd }));
    return address;
  }
  const host = address.host ?? "127.0.0.1";
  await bound(listener, `${host}:${address.port}`, () => listener.listen({ host, port: address.port }));
  const actual = listener.address();
  return { host, port: typeof actual === "object" && actual !== null ? actual.port : address.port };
}

async function listenOnPath(listener: Server, path: string): Promise<ListenAddress> {
  checkSocketPath(path);
  if (isSocket(path)) {
    if (await answers(path)) throw inUse(path);
    unlinkSync(path);
  }
  await bound(listener, path, () => listenPrivately(listener, path));
  return { path };
}

/** Throws `VDO_BAD_ARGUMENT` for a path no Unix socket can have. */
export function checkSocketPath(path: string): void {
  const length = Buffer.byteLength(path);
  if (length > 0 && length <= SOCKET_PATH_BYTES_MAX) return;
  throw new VdoError(
    "VDO_BAD_ARGUMENT",
    `the socket path is ${length} bytes long, 1 to ${SOCKET_PATH_BYTES_MAX} are possible: use a shorter one: ${path}`,
    { argument: "path", value: path },
  );
}

/** The file is bound within the call, so the mask of new files holds for it alone. Worker threads cannot set the mask. */
function listenPrivately(listener: Server, path: string): void {
  let mask: number | undefined;
  try {
    mask = process.umask(0o177);
  } catch {
    listener.once("listening", () => chmodSync(path, 0o600));
  }
  try {
    listener.listen({ path });
  } finally {
    if (mask !== undefined) process.umask(mask);
  }
}

function bound(listener: Server, address: string, listen: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const onError = (error: NodeJS.ErrnoException): void => {
      if (error.code === "EADDRINUSE") reject(inUse(address, error));
      else {
        const text = `cannot listen on ${address}: ${error.message}`;
        reject(new VdoError("VDO_IO", text, { operation: "open", block: 0 }, error));
      }
    };
    listener.once("error", onError);
    listener.once("listening", () => {
      listener.off("error", onError);
      // Failures of accept (no file descriptors left) leave the client waiting, and us alive.
      listener.on("error", () => undefined);
      resolve();
    });
    listen();
  });
}

function inUse(address: string, cause?: unknown): VdoError {
  return new VdoError(
    "VDO_ADDRESS_IN_USE",
    `another process listens on ${address}: stop it or use another address`,
    { address },
    cause,
  );
}

function isSocket(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isSocket() === true;
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", (error: NodeJS.ErrnoException) =>
      resolve(error.code !== "ECONNREFUSED" && error.code !== "ENOENT"),
    );
  });
}
