/** Sizes and limits of dm-thin (Linux 6.12, thin-pool and thin targets 1.23.0). */

/** Bytes of a sector, the unit of all sizes in tables. */
export const SECTOR_BYTES = 512;
/** Bytes of a metadata block. */
export const METADATA_BLOCK_BYTES = 4096;
/** 255 bitmaps of 16320 blocks each, 15.875 GiB: what the metadata space map can count. */
export const METADATA_BLOCKS_MAX = 4_161_600;
/** Metadata devices above 16 GiB are warned about; the excess is not used. */
export const METADATA_WARN_BLOCKS = 4_194_304;
/** Data block sizes in sectors: 64 KiB to 1 GiB, in steps of 64 KiB. */
export const BLOCK_SECTORS_MIN = 128;
export const BLOCK_SECTORS_MAX = 2_097_152;
/** Device ids have 24 bits. */
export const DEVICE_ID_MAX = 0xff_ffff;
/** Times in mappings have 24 bits; nothing in the kernel guards the overflow, so the last snapshot is refused here. */
export const TIME_MAX = 0xff_ffff;
/** Metadata blocks kept back so that a running operation and a commit always fit. */
export const METADATA_RESERVE_MAX = 4096;
/** The metadata threshold of a pool's status is at most this. */
export const METADATA_THRESHOLD_MAX = 1024;
/** Data blocks of one discard passed down. */
export const DISCARD_BLOCKS_MAX = 1024;
/** Milliseconds a full pool queues writes before it fails them. */
export const NO_SPACE_TIMEOUT_MS = 60_000;
/** Milliseconds after the last commit at which changes are committed unasked. */
export const COMMIT_PERIOD_MS = 1000;
