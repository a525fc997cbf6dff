/** Numbers of the NBD protocol. Source of fact: the protocol document of the nbd project, doc/proto.md, 3.27. */

/** IANA's TCP port for NBD. */
export const NBD_DEFAULT_PORT = 10809;

/** "NBDMAGIC" and "IHAVEOPT" as two 32-bit halves each, so that no comparison needs a 64-bit number. */
export const MAGIC = {
  initHigh: 0x4e42444d,
  initLow: 0x41474943,
  optionHigh: 0x49484156,
  optionLow: 0x454f5054,
  optionReplyHigh: 0x0003e889,
  optionReplyLow: 0x045565a9,
  request: 0x25609513,
  simpleReply: 0x67446698,
  structuredReply: 0x668e33ef,
} as const;

export const HANDSHAKE_FLAG = { fixedNewstyle: 1, noZeroes: 2 } as const;

export const TRANSMISSION_FLAG = {
  hasFlags: 1 << 0,
  readOnly: 1 << 1,
  sendFlush: 1 << 2,
  sendFua: 1 << 3,
  sendTrim: 1 << 5,
  sendWriteZeroes: 1 << 6,
  sendDf: 1 << 7,
  canMultiConn: 1 << 8,
  sendCache: 1 << 10,
  sendFastZero: 1 << 11,
} as const;

export const OPTION = {
  exportName: 1,
  abort: 2,
  list: 3,
  startTls: 5,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10,
} as const;

export const OPTION_REPLY = {
  ack: 1,
  server: 2,
  info: 3,
  metaContext: 4,
  errorUnsupported: 0x80000001,
  errorPolicy: 0x80000002,
  errorInvalid: 0x80000003,
  errorTlsRequired: 0x80000005,
  errorUnknown: 0x80000006,
  errorShutdown: 0x80000007,
  errorTooBig: 0x80000009,
} as const;

export const INFO = { export: 0, name: 1, description: 2, blockSize: 3 } as const;

export const COMMAND = {
  read: 0,
  write: 1,
  disconnect: 2,
  flush: 3,
  trim: 4,
  cache: 5,
  writeZeroes: 6,
  blockStatus: 7,
} as const;

/** Names of the commands by number, for texts. */
export const COMMAND_NAMES = [
  "read",
  "write",
  "disconnect",
  "flush",
  "trim",
  "cache",
  "write zeroes",
  "block status",
] as const;

export const COMMAND_FLAG = { fua: 1, noHole: 2, df: 4, requestOne: 8, fastZero: 16 } as const;

export const CHUNK = {
  none: 0,
  offsetData: 1,
  offsetHole: 2,
  blockStatus: 5,
  error: 0x8001,
  errorOffset: 0x8002,
} as const;

export const CHUNK_FLAG_DONE = 1;

/** The eight error values the protocol knows. */
export const NBD_ERROR = {
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
} as const;

/** Status bits of `base:allocation`. */
export const ALLOCATION = { hole: 1, zero: 2 } as const;

export const BASE_ALLOCATION = "base:allocation";

/** Longest export name, description, error text or context name the protocol allows, in bytes. */
export const STRING_BYTES_MAX = 4096;

/** Largest payload every peer may send or ask for, in bytes; also what this server advertises as its maximum. */
export const PAYLOAD_BYTES_MAX = 32 << 20;
