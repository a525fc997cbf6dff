/** Reads the XML of a dump piece by piece: what it says goes to a target as it comes, however large it is. */
import { VdoError } from "@vdo/base";
import sax from "sax";
import type { DumpDevice, DumpHead } from "./dump-format.ts";
import type { MappingRun } from "./mapping-runs.ts";

/** Where a dump's parts go, in its order. */
export interface DumpTarget {
  begin(head: DumpHead): Promise<void>;
  deviceBegin(device: DumpDevice): Promise<void>;
  run(run: MappingRun): Promise<void> | void;
  deviceEnd(): Promise<void>;
  end(): Promise<void>;
}

type Event = { name: string; opens: boolean; attributes: Readonly<Record<string, string>>; line: number };

function refuse(line: number, text: string): VdoError {
  return new VdoError("VDO_THIN_SYNTAX", `line ${line}: ${text}: the XML must be as thin_dump writes it`, { text });
}

/** The attribute as an integer of 0 to `max`. */
function integer({ name, attributes, line }: Event, key: string, max = Number.MAX_SAFE_INTEGER): number {
  const text = attributes[key];
  if (text === undefined) throw refuse(line, `${name} has no ${key}`);
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(value <= max)) throw refuse(line, `${key}="${text}" is not a number of 0 to ${max}`);
  return value;
}

function transactionOf(event: Event): bigint {
  const text = event.attributes["transaction"] ?? "";
  if (!/^\d+$/.test(text) || BigInt(text) >= 1n << 64n)
    throw refuse(event.line, `transaction="${text}" is not a number`);
  return BigInt(text);
}

function headOf(event: Event): DumpHead {
  if (event.attributes["uuid"] === undefined) throw refuse(event.line, "superblock has no uuid");
  return {
    uuid: event.attributes["uuid"],
    time: integer(event, "time", 0xffff_ffff),
    transaction: transactionOf(event),
    flags: event.attributes["flags"] === undefined ? 0 : integer(event, "flags", 0xffff_ffff),
    version: event.attributes["version"] === undefined ? 2 : integer(event, "version", 0xffff_ffff),
    dataBlockSize: integer(event, "data_block_size", 0xffff_ffff),
    dataBlocks: integer(event, "nr_data_blocks"),
  };
}

function deviceOf(event: Event): DumpDevice {
  return {
    id: integer(event, "dev_id", 0xff_ffff),
    mappedBlocks: integer(event, "mapped_blocks"),
    transaction: transactionOf(event),
    creationTime: integer(event, "creation_time", 0xffff_ffff),
    snapTime: integer(event, "snap_time", 0xffff_ffff),
  };
}

function runOf(event: Event): MappingRun {
  const isSingle = event.name === "single_mapping";
  return {
    begin: integer(event, isSingle ? "origin_block" : "origin_begin"),
    data: integer(event, isSingle ? "data_block" : "data_begin", 2 ** 40 - 1),
    length: isSingle ? 1 : integer(event, "length"),
    time: integer(event, "time", 0xff_ffff),
  };
}

/** Element names that may stand in each element. */
const CHILDREN: Readonly<Record<string, readonly string[]>> = {
  "": ["superblock"],
  superblock: ["device"],
  device: ["single_mapping", "range_mapping"],
  single_mapping: [],
  range_mapping: [],
};

async function handOn(event: Event, target: DumpTarget): Promise<void> {
  const { name, opens } = event;
  if (name === "superblock") await (opens ? target.begin(headOf(event)) : target.end());
  else if (name === "device") await (opens ? target.deviceBegin(deviceOf(event)) : target.deviceEnd());
  else if (opens) await target.run(runOf(event));
}

/** Reads `pieces` to their end. Throws `VDO_THIN_SYNTAX` with the line, and what the target throws. */
export async function readDump(pieces: AsyncIterable<string>, target: DumpTarget): Promise<void> {
  const parser = sax.parser(true, { position: true });
  const events: Event[] = [];
  const path: string[] = [""];
  let finished = false;
  parser.onerror = (error) => {
    throw refuse(parser.line + 1, error.message.split("\n")[0] as string);
  };
  parser.onopentag = ({ name, attributes }) => {
    const line = parser.line + 1;
    if (!(CHILDREN[path.at(-1) as string] ?? []).includes(name)) throw refuse(line, `unknown tag type <${name}>`);
    if (finished) throw refuse(line, "a second superblock");
    path.push(name);
    events.push({ name, opens: true, attributes: attributes as Record<string, string>, line });
  };
  parser.onclosetag = (name) => {
    path.pop();
    finished = name === "superblock";
    events.push({ name, opens: false, attributes: {}, line: parser.line + 1 });
  };
  for await (const piece of pieces) {
    parser.write(piece);
    for (const event of events.splice(0)) await handOn(event, target);
  }
  if (!finished) throw refuse(parser.line + 1, "the text ends before </superblock>");
}
