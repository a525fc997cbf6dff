/**
 * A metadata block in memory, and the kinds of blocks.
 *
 * The two fields that every kind has, its own address and the checksum, are filled when the block is written out and checked
 * when it is read; in memory both may be stale. (Linux 6.12, dm-block-manager.)
 */
import { crc32c, setU64 } from "@vdo/base";
import { corrupt } from "../errors.ts";

/** Bytes of a metadata block, in every known use of the format. */
export const BLOCK_BYTES = 4096;

/** What kind of block a block is: how it is sealed and recognised. */
export interface BlockKind {
  /** For messages, for example "B-tree node". */
  readonly name: string;
  /** Exclusive-or'ed to the checksum, so that a block is never taken for one of another kind. */
  readonly salt: number;
  /** Where the block's own address is stored (u64); the checksum is in bytes 0 to 3. */
  readonly addressOffset: number;
  /** Further facts that must hold for a block that was read. Throws `VDO_CORRUPT`. `place` begins the message. */
  check?(block: Block, place: string): void;
  /** Checked before the checksum, for a better message than a wrong checksum gives (a superblock's magic number). */
  identify?(block: Block, place: string): void;
}

/** A cached block. Read through `view` or `bytes`; change only what `newBlock`, `shadow` or `change` handed out. */
export class Block {
  readonly number: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Undefined until the block was validated as some kind. */
  kind: BlockKind | undefined;
  /** Changed since it was last copied for a write. */
  dirty = false;
  /** Bookkeeping of the cache: the operation that changed it last, and may hold it still. */
  operation = 0;
  /** Bookkeeping of the cache: a copy is on its way to the device. */
  writing = false;
  /** Bookkeeping of the cache: used since the hand of the clock passed. */
  used = true;
  /** Bookkeeping of the cache: place in its ring. */
  slot = -1;

  constructor(number: number, kind?: BlockKind) {
    this.number = number;
    this.kind = kind;
    this.bytes = new Uint8Array(BLOCK_BYTES);
    this.view = new DataView(this.bytes.buffer);
  }
}

/** The checksum that a block of a kind with `salt` must carry. Bytes 4 to 4095, no final inversion. */
export function blockChecksum(bytes: Uint8Array, salt: number): number {
  return (crc32c(bytes.subarray(4), 0xffffffff, 0) ^ salt) >>> 0;
}

/** Fills address and checksum of a copy that is about to be written. */
export function sealBlock(
  bytes: Uint8Array,
  view: DataView,
  { number, kind }: { number: number; kind: BlockKind },
): void {
  setU64(view, kind.addressOffset, number, true);
  view.setUint32(0, blockChecksum(bytes, kind.salt), true);
}

/**
 * Validates a block that was just read, in the kernel's order: address, identity, checksum, shape.
 * Throws `VDO_CORRUPT` naming the block and the field; `path` tells how it was reached.
 */
export function validateBlock(block: Block, kind: BlockKind, path = ""): void {
  const place = `${path === "" ? "" : `${path}: `}${kind.name} at block ${block.number}`;
  const low = block.view.getUint32(kind.addressOffset, true);
  const high = block.view.getUint32(kind.addressOffset + 4, true);
  const address = high * 0x1_0000_0000 + low;
  if (address !== block.number) throw corrupt(place, "block number", { expected: block.number, actual: address });
  kind.identify?.(block, place);
  const stored = block.view.getUint32(0, true);
  const sum = blockChecksum(block.bytes, kind.salt);
  if (stored !== sum) throw corrupt(place, "checksum", { expected: sum, actual: stored });
  kind.check?.(block, place);
  block.kind = kind;
}
