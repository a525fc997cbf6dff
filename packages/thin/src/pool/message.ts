/** Messages to a pool, with the kernel's words and refusals. Source of fact: Linux 6.12, thin-pool 1.23.0. */
import { VdoError } from "@vdo/base";
import { DEVICE_ID_MAX } from "../constants.ts";

export type PoolMessage =
  | { verb: "create_thin"; id: number }
  | { verb: "create_snap"; id: number; origin: number }
  | { verb: "delete"; id: number }
  | { verb: "set_transaction_id"; current: bigint; next: bigint }
  | { verb: "reserve_metadata_snap" }
  | { verb: "release_metadata_snap" };

/** Words of each message, the verb included. */
const WORDS: Readonly<Record<PoolMessage["verb"], number>> = {
  create_thin: 2,
  create_snap: 3,
  delete: 2,
  set_transaction_id: 3,
  reserve_metadata_snap: 1,
  release_metadata_snap: 1,
};

function syntax(text: string): VdoError {
  return new VdoError("VDO_THIN_SYNTAX", text, { text });
}

/** A device id, 0 to 2^24 - 1. Throws `VDO_THIN_SYNTAX`. */
export function parseDeviceId(word: string): number {
  const id = /^\d+$/.test(word) ? Number(word) : Number.NaN;
  if (!(id <= DEVICE_ID_MAX)) throw syntax(`Message received with invalid device id: ${word}`);
  return id;
}

function parseTransactionId(word: string, text: string): bigint {
  if (!/^\d+$/.test(word) || BigInt(word) >= 1n << 64n) throw syntax(`set_transaction_id message: ${text} ID ${word}`);
  return BigInt(word);
}

/** Reads a message. Throws `VDO_THIN_SYNTAX`. */
export function parseMessage(text: string): PoolMessage {
  const words = text.trim().split(/\s+/);
  const verb = (words[0] as string).toLowerCase();
  if (!Object.hasOwn(WORDS, verb)) throw syntax(`Unrecognised thin pool target message received: ${words[0]}`);
  const wanted = WORDS[verb as PoolMessage["verb"]];
  if (words.length !== wanted) throw syntax(`Message received with ${words.length} arguments instead of ${wanted}.`);
  const [, first = "", second = ""] = words;
  switch (verb as PoolMessage["verb"]) {
    case "create_thin":
      return { verb: "create_thin", id: parseDeviceId(first) };
    case "create_snap":
      return { verb: "create_snap", id: parseDeviceId(first), origin: parseDeviceId(second) };
    case "delete":
      return { verb: "delete", id: parseDeviceId(first) };
    case "set_transaction_id": {
      const current = parseTransactionId(first, "Unrecognised current");
      return { verb: "set_transaction_id", current, next: parseTransactionId(second, "Unrecognised new") };
    }
    case "reserve_metadata_snap":
      return { verb: "reserve_metadata_snap" };
    case "release_metadata_snap":
      return { verb: "release_metadata_snap" };
  }
}
