/** The nonces that tie the parts of an index together (Linux 6.12, index layout). */
import { struct, u16le, u32le, u64le, u64leBig } from "@vdo/base";
import { murmur3 } from "./murmur3.ts";

const MASK = (1n << 64n) - 1n;
const PRIMARY_START = 0xa1b1e0fcn;

export const NONCE_INFO_BYTES = 32;

const volumeNonceData = struct("VolumeNonceData", 16, {
  startBlock: u64le,
  index: u16le,
  reserved0: u16le,
  reserved1: u32le,
});

const saveNonceData = struct("SaveNonceData", 32, {
  timestamp: u64le,
  nonce: u64leBig,
  version: u32le,
  unused: u32le,
  startBlock: u64le,
});

function hash(start: bigint, data: Uint8Array): bigint {
  const digest = murmur3(data, Number((start ^ (start >> 27n)) & 0xffffffffn));
  return new DataView(digest.buffer).getBigUint64(4, true);
}

function secondary(nonce: bigint, data: Uint8Array): bigint {
  return hash((nonce + 1n) & MASK, data);
}

/** Of the whole layout, from 32 arbitrary bytes. */
export function primaryNonce(nonceInfo: Uint8Array): bigint {
  return hash(PRIMARY_START, nonceInfo);
}

/** Of the volume and everything in it; `startBlock` is that of the sub-index region. Never 0. */
export function volumeNonce(primary: bigint, startBlock: number): bigint {
  const data = volumeNonceData.encode({ startBlock, index: 0, reserved0: 0, reserved1: 0 });
  const nonce = secondary(primary, data);
  return nonce === 0n ? secondary(-primary & MASK, data) : nonce;
}

/** Of one save: `timestamp` in milliseconds since 1970, `startBlock` that of the save slot. */
export function saveNonce(volume: bigint, save: { timestamp: number; startBlock: number }): bigint {
  return secondary(volume, saveNonceData.encode({ ...save, nonce: 0n, version: 1, unused: 0 }));
}
