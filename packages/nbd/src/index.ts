export { NbdClient, type NbdClientOptions } from "./client/nbd-client.ts";
export { formatNbdUri, type NbdAddress, parseNbdUri } from "./client/nbd-uri.ts";
export { ReconnectingNbdDevice, type ReconnectingOptions } from "./client/reconnecting-nbd-device.ts";
export { nbdErrorOf } from "./errors.ts";
export { NBD_DEFAULT_PORT } from "./protocol/constants.ts";
export { checkSocketPath, type ListenAddress, SOCKET_PATH_BYTES_MAX } from "./server/address.ts";
export { DEFAULT_LIMITS, type ServerLimits } from "./server/limits.ts";
export { NbdServer, type NbdServerOptions } from "./server/nbd-server.ts";
export type { ExportOptions } from "./server/served-export.ts";
