/** Where an export is: `nbd://host[:port]/[export]` or `nbd+unix:///[export]?socket=PATH`. */
import { VdoError } from "@vdo/base";
import { NBD_DEFAULT_PORT, STRING_BYTES_MAX } from "../protocol/constants.ts";

/** The place of an export, taken apart. Either `path` (a Unix socket) or `host` is set. */
export interface NbdAddress {
  path?: string;
  host?: string;
  /** Default 10809. */
  port?: number;
  /** Default "": the server's default export. */
  exportName?: string;
}

/** Takes an NBD URI apart. Throws `VDO_BAD_ARGUMENT` for what is none, and for TLS, which this client does not speak. */
export function parseNbdUri(uri: string): NbdAddress {
  const match = /^(nbds?)(\+unix)?:\/\/([^/?#]*)(\/[^?#]*)?(?:\?([^#]*))?$/i.exec(uri);
  if (match === null) throw bad(uri, "an NBD URI is nbd://HOST[:PORT]/[EXPORT] or nbd+unix:///[EXPORT]?socket=PATH");
  const [, scheme = "", unix, authority = "", path = "", query = ""] = match;
  if (scheme.toLowerCase() === "nbds")
    throw bad(uri, "TLS is not spoken here: use nbd: or nbd+unix: on a trusted path");
  const exportName = decode(uri, path.slice(1));
  if (Buffer.byteLength(exportName) > STRING_BYTES_MAX) throw bad(uri, "the export's name is too long");
  if (unix !== undefined) {
    const socket = new URLSearchParams(query).get("socket");
    if (socket === null || socket === "") throw bad(uri, "a Unix socket has to be named: ?socket=PATH");
    if (authority !== "") throw bad(uri, "three slashes begin the export's name of a Unix socket: nbd+unix:///");
    return { path: socket, exportName };
  }
  const address = /^(?:\[([^\]]+)\]|([^:@]+))(?::(\d+))?$/.exec(authority);
  const port = Number(address?.[3] ?? NBD_DEFAULT_PORT);
  if (address === null || port > 65535) throw bad(uri, "a host, and perhaps a port, is expected after the slashes");
  return { host: decode(uri, address[1] ?? address[2] ?? ""), port, exportName };
}

/** One spelling for equal addresses: the URI of `address`, with its port, and the host in small letters. */
export function formatNbdUri({ path, host = "", port = NBD_DEFAULT_PORT, exportName = "" }: NbdAddress): string {
  const name = encodeURIComponent(exportName);
  if (path !== undefined) return `nbd+unix:///${name}?socket=${encodeURI(path).replaceAll("&", "%26")}`;
  const plain = host.toLowerCase();
  return `nbd://${plain.includes(":") ? `[${plain}]` : encodeURIComponent(plain)}:${port}/${name}`;
}

function decode(uri: string, text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw bad(uri, "a percent sign is not followed by two hexadecimal digits of valid UTF-8");
  }
}

function bad(uri: string, why: string): VdoError {
  return new VdoError("VDO_BAD_ARGUMENT", `'${uri}': ${why}`, { argument: "uri", value: uri });
}
