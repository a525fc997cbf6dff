/**
 * One buffer per connection into which its socket reads, instead of a new one of 64 KiB for every read.
 *
 * The runtime has this for sockets that connect (`onread` of `net.Socket`), not for those a server accepts; so the accepted
 * socket's handle moves to a socket made with it. What it saves is mostly garbage collection: the buffers are memory outside
 * the heap, and with a small heap V8 answers with a full collection for every 30 MiB received. Measured with writes of 64 KiB
 * (`npm run bench -- --only ploop`): 37 µs of CPU time in user mode each before, 9 µs after. Longer reads also bring several
 * requests at a time, which devices can put together.
 */
import { Socket } from "node:net";

/** More than a Unix socket on Linux holds at a time (208 KiB by default). */
const READ_BYTES = 256 << 10;

interface SocketInside {
  _handle: { useUserBuffer?: unknown } | null;
}

/**
 * The same connection, reading into one buffer: what a `data` event gives is valid until the event's listeners return, or,
 * when they paused the socket, until it is resumed. For sockets accepted with `pauseOnConnect`. Where the runtime has no such
 * reading, the socket itself.
 */
export function withReadBuffer(accepted: Socket): Socket {
  const inside = accepted as unknown as SocketInside;
  const handle = inside._handle;
  if (typeof handle?.useUserBuffer !== "function") return accepted;
  inside._handle = null;
  accepted.destroy();
  const buffer = Buffer.allocUnsafeSlow(READ_BYTES);
  const options = {
    handle,
    allowHalfOpen: true,
    onread: {
      buffer,
      callback: (count: number): boolean => {
        socket.emit("data", buffer.subarray(0, count));
        return true;
      },
    },
  };
  const socket = new Socket(options);
  return socket;
}
