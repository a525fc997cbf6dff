/** Requests cut at virtual block boundaries. Units: bytes, and virtual blocks. */

/** The part of a request that lies in one virtual block. */
export interface Segment {
  block: number;
  /** Bytes from the start of the virtual block. */
  within: number;
  /** Bytes from the start of the request's buffer. */
  at: number;
  length: number;
}

export function cutIntoSegments(offset: number, length: number, blockBytes: number): Segment[] {
  const segments: Segment[] = [];
  for (let at = 0; at < length; ) {
    const position = offset + at;
    const block = Math.floor(position / blockBytes);
    const within = position - block * blockBytes;
    const part = Math.min(blockBytes - within, length - at);
    segments.push({ block, within, at, length: part });
    at += part;
  }
  return segments;
}

/** Buffers for consecutive places of the data device, in one request. */
export interface Transfer {
  /** Bytes from the start of the data device. */
  offset: number;
  buffers: Uint8Array[];
  length: number;
}

/** Collects buffers; those that follow each other on the device join one transfer. */
export class TransferList {
  readonly transfers: Transfer[] = [];

  add(offset: number, buffer: Uint8Array): void {
    const last = this.transfers.at(-1);
    if (last !== undefined && last.offset + last.length === offset) {
      last.buffers.push(buffer);
      last.length += buffer.length;
    } else this.transfers.push({ offset, buffers: [buffer], length: buffer.length });
  }
}
