/** Tables of the thin-pool target: options with their exact text. Source of fact: Linux 6.12, thin-pool 1.23.0. */
import { VdoError } from "@vdo/base";
import { BLOCK_SECTORS_MAX, BLOCK_SECTORS_MIN } from "../constants.ts";

export type DiscardMode = "ignore" | "no_passdown" | "passdown";

/** What a pool's table may ask for. */
export interface PoolFeatures {
  /** New blocks are not zeroed: old content of the data device shows around partial writes. */
  skipBlockZeroing: boolean;
  discard: DiscardMode;
  readOnly: boolean;
  /** Writes that need a block fail when none is free, instead of waiting for one. */
  errorIfNoSpace: boolean;
}

export const DEFAULT_FEATURES: PoolFeatures = {
  skipBlockZeroing: false,
  discard: "passdown",
  readOnly: false,
  errorIfNoSpace: false,
};

/** Most feature words the kernel takes. */
const FEATURES_MAX = 4;

/** A line of a table without its start, length and target name. */
export interface PoolTable {
  metadata: string;
  data: string;
  blockSectors: number;
  /** Data blocks. */
  lowWater: number;
  features: PoolFeatures;
}

function syntax(text: string, value: string): VdoError {
  return new VdoError("VDO_THIN_SYNTAX", `${text}: ${value}`, { text: value });
}

/** Throws `VDO_THIN_SYNTAX` with the kernel's text. */
export function checkBlockSectors(sectors: number): number {
  const isValid = sectors >= BLOCK_SECTORS_MIN && sectors <= BLOCK_SECTORS_MAX && sectors % BLOCK_SECTORS_MIN === 0;
  if (!isValid) throw syntax("Invalid block size", String(sectors));
  return sectors;
}

/** Words of features, in any order and case. Throws `VDO_THIN_SYNTAX`. */
export function parseFeatures(words: readonly string[]): PoolFeatures {
  if (words.length > FEATURES_MAX) throw syntax("Invalid number of pool feature arguments", String(words.length));
  const features = { ...DEFAULT_FEATURES };
  for (const word of words) {
    switch (word.toLowerCase()) {
      case "skip_block_zeroing":
        features.skipBlockZeroing = true;
        break;
      case "ignore_discard":
        features.discard = "ignore";
        break;
      case "no_discard_passdown":
        if (features.discard === "passdown") features.discard = "no_passdown";
        break;
      case "read_only":
        features.readOnly = true;
        break;
      case "error_if_no_space":
        features.errorIfNoSpace = true;
        break;
      default:
        throw syntax("Unrecognised pool feature requested", word);
    }
  }
  return features;
}

/** `<metadata> <data> <block size> <low water> [<#features> <feature>…]`. Throws `VDO_THIN_SYNTAX`. */
export function parsePoolTable(text: string): PoolTable {
  const words = text.trim().split(/\s+/);
  if (words.length < 4) throw syntax("Invalid argument count", text);
  const [metadata, data, block, low, count = "0"] = words as [string, string, string, string, string?];
  if (metadata === data) throw syntax("Error setting metadata or data device", text);
  if (!/^\d+$/.test(count) || Number(count) !== words.length - Math.min(words.length, 5)) {
    throw syntax("Invalid number of pool feature arguments", count);
  }
  const features = parseFeatures(words.slice(5));
  const blockSectors = checkBlockSectors(/^\d+$/.test(block) ? Number(block) : Number.NaN);
  if (!/^\d+$/.test(low) || !Number.isSafeInteger(Number(low))) throw syntax("Invalid low water mark", low);
  return { metadata, data, blockSectors, lowWater: Number(low), features };
}

/** The table as `dmsetup table` shows it, with the space at its end. */
export function formatPoolTable({ metadata, data, blockSectors, lowWater, features }: PoolTable): string {
  const words: string[] = [];
  if (features.skipBlockZeroing) words.push("skip_block_zeroing");
  if (features.discard === "ignore") words.push("ignore_discard");
  if (features.discard === "no_passdown") words.push("no_discard_passdown");
  if (features.readOnly) words.push("read_only");
  if (features.errorIfNoSpace) words.push("error_if_no_space");
  return `${metadata} ${data} ${blockSectors} ${lowWater} ${[String(words.length), ...words].join(" ")} `;
}
