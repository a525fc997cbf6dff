/**
 * Who may ask the status page. The page listens on the loopback only, but every program and every web site open in a browser
 * of this machine reaches that too, so:
 *
 * - data and switches need the volume's token, in the header `Authorization: Bearer TOKEN`. A header is never sent by a
 *   browser on its own, so no other site can act in the user's name, and no cookie is shared between ports;
 * - the header `Host` must name the loopback, so a site whose name was rebound to 127.0.0.1 gets nothing;
 * - requests for data that a browser marks as coming from another origin are refused whatever they carry.
 */
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";

/** Bytes of a token: more than can be guessed. */
const TOKEN_BYTES = 32;

/** Names of the loopback. The port is free: a tunnel may have another. */
const LOOPBACK_HOST = /^(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?$/i;

export interface Denial {
  status: 401 | 403;
  code: string;
  message: string;
}

/** A new random token, of characters that need no escape in a URL. */
export function newToken(): string {
  return randomBytes(TOKEN_BYTES).toString("base64url");
}

/** Headers of every answer: nothing but the page's own files, never framed, never stored, never sniffed. */
export const SAFE_HEADERS: Readonly<Record<string, string>> = {
  "Content-Security-Policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
  "Referrer-Policy": "no-referrer",
  "X-Content-Type-Options": "nosniff",
  "X-Frame-Options": "DENY",
  "Cache-Control": "no-store",
};

/** Why a request for the page's own files is refused; `undefined` when it is not. */
export function denyHost({ host }: IncomingHttpHeaders): Denial | undefined {
  if (host !== undefined && LOOPBACK_HOST.test(host)) return undefined;
  const message = "this page answers to localhost and 127.0.0.1 alone: open it by the URL that vdo status prints";
  return { status: 403, code: "FORBIDDEN_HOST", message };
}

/** Why a request for data or a change is refused; `undefined` when it is not. Takes the same time for every wrong token. */
export function denyData(headers: IncomingHttpHeaders, token: string): Denial | undefined {
  const site = headers["sec-fetch-site"];
  const isForeign =
    (site !== undefined && site !== "same-origin" && site !== "none") ||
    (headers.origin !== undefined && headers.origin !== `http://${headers.host}`);
  if (isForeign) return { status: 403, code: "FORBIDDEN_ORIGIN", message: "requests of other sites are refused" };
  const [, given = ""] = /^Bearer ([\w-]{1,128})$/.exec(headers.authorization ?? "") ?? [];
  if (timingSafeEqual(digest(given), digest(token))) return undefined;
  const message = "the token is missing or belongs to an earlier start: open the URL that vdo status prints";
  return { status: 401, code: "UNAUTHORIZED", message };
}

/** Of equal length whatever was given, as the comparison needs it. */
function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
