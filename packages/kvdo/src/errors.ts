/**
 * Error codes of @vdo/kvdo, and the numbers and texts by which the kernel and its tools call them.
 *
 * Damage that is found in a structure carries `structure` and `field`, and what was expected and found there.
 */
import type { ErrorCode, VdoError } from "@vdo/base";

/** Where a structure read from storage is not what it should be. */
export interface Mismatch {
  structure: string;
  field: string;
  expected: unknown;
  actual: unknown;
}

declare module "@vdo/base" {
  interface ErrorData {
    /** The first bytes are not those of the structure: not a VDO, or a wiped one. */
    VDO_BAD_MAGIC: Mismatch;
    /** The checksum does not match the bytes it covers. */
    VDO_CHECKSUM: Mismatch;
    /** A structure of a version or size that this program does not know. */
    VDO_UNSUPPORTED_VERSION: Mismatch;
    /** Another component where one was expected. */
    VDO_INCORRECT_COMPONENT: Mismatch;
    /** The volume was not stopped cleanly. `state` is the name of the state in the super block. */
    VDO_DIRTY: { state: string };
    /** A size, count or option outside what the format allows. */
    VDO_BAD_CONFIGURATION: Mismatch;
    /** A size on storage differs from the size of the storage, or from the one given. */
    VDO_PARAMETER_MISMATCH: Mismatch;
    /** The partitions do not cover the volume. */
    VDO_BAD_LAYOUT: Mismatch;
    /** The layout lacks a partition. */
    VDO_UNKNOWN_PARTITION: Mismatch;
    /** A block map entry that no valid volume has. */
    VDO_BAD_MAPPING: { lbn?: number; pbn: number; state: number };
    /** A block map page with the number of another page. */
    VDO_BAD_PAGE: Mismatch;
    /** A compressed block or a fragment in it that cannot be decoded. */
    VDO_INVALID_FRAGMENT: { slot: number; reason: string };
    /** Another operation of this kind is in progress. */
    VDO_BUSY: { operation: string };
    /** The super block belongs to another life of the device than the geometry block. */
    VDO_BAD_NONCE: { structure: string; expected: bigint; actual: bigint };
    /** A reference count would leave its range. `block` counts from the start of its slab. */
    VDO_REF_COUNT: { block: number; count: number; operation: string };
    /** The recovery journal holds what no valid run writes. */
    VDO_CORRUPT_JOURNAL: Mismatch;
    /** A journal sequence number reached 2^48. */
    VDO_JOURNAL_OVERFLOW: { sequence: number };
    /** More slabs than a volume can have. */
    VDO_TOO_MANY_SLABS: { slabCount: number; slabCountMax: number };
    /** The device is smaller than the smallest volume with these options. Counts are of 4096-byte blocks. */
    VDO_DEVICE_TOO_SMALL: { physicalBlocks: number; minimumBlocks: number; indexBlocks: number };
    /** A size above the format's limit. */
    VDO_SIZE_LIMIT: { argument: string; value: number; limit: number };
    /** A growth too small to be made. */
    VDO_INCREMENT_TOO_SMALL: { blocks: number; minimumBlocks: number };
    /** The device already holds something. `offset` is in bytes. */
    VDO_SIGNATURE_FOUND: {
      signatures: { type: string; usage: string; offset: number; uuid?: string; label?: string }[];
    };
    /** The operation is not possible in the present state. */
    VDO_INVALID_ADMIN_STATE: { operation: string; state: string };
  }
}

/** A status of the kernel: number, text as the tools print it, and whose number it is. */
export interface KernelStatus {
  number: number;
  text: string;
  source: "VDO Status" | "UDS Error";
}

const vdo = (number: number, text: string): KernelStatus => ({ number, text, source: "VDO Status" });

const STATUSES: { readonly [C in ErrorCode]?: KernelStatus } = {
  VDO_OUT_OF_RANGE: vdo(1465, "Out of range"),
  VDO_SIZE_LIMIT: vdo(1465, "Out of range"),
  VDO_REF_COUNT: vdo(1466, "Reference count would become invalid"),
  VDO_NO_SPACE: vdo(1467, "Out of space"),
  VDO_DEVICE_TOO_SMALL: vdo(1467, "Out of space"),
  VDO_BAD_CONFIGURATION: vdo(1468, "Bad configuration option"),
  VDO_BUSY: vdo(1469, "Prior operation still in progress"),
  VDO_BAD_PAGE: vdo(1470, "Corrupt or incorrect page"),
  VDO_UNSUPPORTED_VERSION: vdo(1471, "Unsupported component version"),
  VDO_INCORRECT_COMPONENT: vdo(1472, "Component id mismatch in decoder"),
  VDO_PARAMETER_MISMATCH: vdo(1473, "Parameters have conflicting values"),
  VDO_UNKNOWN_PARTITION: vdo(1474, "No partition exists with a given id"),
  VDO_INCREMENT_TOO_SMALL: vdo(1476, "Physical block growth of too few blocks"),
  VDO_CHECKSUM: vdo(1477, "Incorrect checksum"),
  VDO_READ_ONLY: vdo(1479, "The device is in read-only mode"),
  VDO_CORRUPT_JOURNAL: vdo(1481, "Recovery journal corrupted"),
  VDO_TOO_MANY_SLABS: vdo(1482, "Exceeds maximum number of slabs supported"),
  VDO_INVALID_FRAGMENT: vdo(1483, "Compressed block fragment is invalid"),
  VDO_BAD_MAPPING: vdo(1485, "Invalid page mapping"),
  VDO_BAD_MAGIC: vdo(1487, "Bad magic number"),
  VDO_BAD_NONCE: vdo(1488, "Bad nonce"),
  VDO_JOURNAL_OVERFLOW: vdo(1489, "Journal sequence number overflow"),
  VDO_INVALID_ADMIN_STATE: vdo(1490, "Invalid operation for current state"),
  VDO_BAD_LAYOUT: { number: 1026, text: "UDS data structures are in an invalid state", source: "UDS Error" },
};

/** The kernel's status for an error code; undefined for codes that the kernel has no number for. */
export function kernelStatus(code: ErrorCode): KernelStatus | undefined {
  return STATUSES[code];
}

/** `VDO Status: Bad magic number (1487)` for an error the kernel knows, else the error's own message. */
export function kernelStatusText(error: VdoError): string {
  const status = STATUSES[error.code];
  return status === undefined ? error.message : `${status.source}: ${status.text} (${status.number})`;
}
