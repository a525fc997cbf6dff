/**
 * The fixed-size headers on the wire, declared as data. All integers are big-endian.
 *
 * The hot paths do not decode them into objects: they use the field offsets (`requestHeader.at.length.offset`).
 */
import { struct, u16be, u32be, u64be, u64beBig } from "@vdo/base";

/** First bytes of a server. */
export const serverHello = struct("ServerHello", 18, {
  initMagic: u64beBig,
  optionMagic: u64beBig,
  flags: u16be,
});

/** Head of each option a client sends; `length` bytes of data follow. */
export const optionHeader = struct("OptionHeader", 16, {
  magicHigh: u32be,
  magicLow: u32be,
  option: u32be,
  length: u32be,
});

/** Head of each answer to an option; `length` bytes of data follow. */
export const optionReplyHeader = struct("OptionReplyHeader", 20, {
  magicHigh: u32be,
  magicLow: u32be,
  option: u32be,
  type: u32be,
  length: u32be,
});

/** Data of an information reply of type "export". */
export const exportInfo = struct("ExportInfo", 12, { type: u16be, sizeBytes: u64be, flags: u16be });

/** Data of an information reply of type "block size". Sizes in bytes. */
export const blockSizeInfo = struct("BlockSizeInfo", 14, {
  type: u16be,
  minimum: u32be,
  preferred: u32be,
  maximum: u32be,
});

/** Head of a request; `length` bytes follow for WRITE. */
export const requestHeader = struct("RequestHeader", 28, {
  magic: u32be,
  flags: u16be,
  command: u16be,
  cookieHigh: u32be,
  cookieLow: u32be,
  offset: u64be,
  length: u32be,
});

/** A simple reply; the data of a successful READ follow. */
export const simpleReply = struct("SimpleReply", 16, {
  magic: u32be,
  error: u32be,
  cookieHigh: u32be,
  cookieLow: u32be,
});

/** Head of one chunk of a structured reply; `length` bytes follow. */
export const chunkHeader = struct("ChunkHeader", 20, {
  magic: u32be,
  flags: u16be,
  type: u16be,
  cookieHigh: u32be,
  cookieLow: u32be,
  length: u32be,
});
