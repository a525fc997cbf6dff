/** Limits of a server. Every one bounds what a hostile or careless client can take. */
export interface ServerLimits {
  /** Milliseconds from accept to the start of transmission. */
  handshakeMs: number;
  /** Options a client may send in one handshake; three more for each export. */
  optionsMax: number;
  /** Bytes of data in one option. */
  optionBytesMax: number;
  /** Connections at a time, per server; further ones are closed at once. */
  connectionsMax: number;
  /** Requests in flight per connection; beyond it the socket is not read. */
  requestsMax: number;
  /** Bytes in flight per connection (payloads in, replies the socket has not taken); beyond it the socket is not read. */
  connectionBytesMax: number;
  /** Bytes in flight of all connections together. */
  serverBytesMax: number;
  /** Milliseconds without progress after which a connection that holds bytes others wait for is dropped. */
  stalledMs: number;
  /** Milliseconds to wait for the peer's end after the last reply. */
  lingerMs: number;
}

/** 128 requests is the Linux driver's queue depth per connection. */
export const DEFAULT_LIMITS: ServerLimits = {
  handshakeMs: 10_000,
  optionsMax: 1024,
  optionBytesMax: 1 << 20,
  connectionsMax: 64,
  requestsMax: 128,
  connectionBytesMax: 64 << 20,
  serverBytesMax: 256 << 20,
  stalledMs: 10_000,
  lingerMs: 1000,
};

/** Largest WRITE served; up to twice as much is consumed and refused, beyond that the connection ends. */
export const WRITE_BYTES_MAX = 32 << 20;
export const WRITE_BYTES_CONSUMED_MAX = 64 << 20;
/** Largest READ served. */
export const READ_BYTES_MAX = 64 << 20;
/** With structured replies, longer READs are streamed in pieces of this size. */
export const STREAM_BYTES = 1 << 20;
