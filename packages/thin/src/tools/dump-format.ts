/** The texts of a dump: XML and the form for people, byte for byte as thin_dump 0.9 (Debian 12) writes them. */
import type { MappingRun } from "./mapping-runs.ts";

/** The first element of a dump. */
export interface DumpHead {
  /** As written; empty in all pools seen. */
  uuid: string;
  time: number;
  transaction: bigint;
  flags: number;
  version: number;
  /** Sectors. */
  dataBlockSize: number;
  dataBlocks: number;
}

export interface DumpDevice {
  id: number;
  mappedBlocks: number;
  transaction: bigint;
  creationTime: number;
  snapTime: number;
}

/** Text of each part of a dump. */
export interface DumpFormat {
  begin(head: DumpHead): string;
  deviceBegin(device: DumpDevice): string;
  run(run: MappingRun): string;
  deviceEnd(): string;
  end(): string;
}

export const xmlFormat: DumpFormat = {
  begin: (head) =>
    `<superblock uuid="${head.uuid}" time="${head.time}" transaction="${head.transaction}" flags="${head.flags}" version="${head.version}" data_block_size="${head.dataBlockSize}" nr_data_blocks="${head.dataBlocks}">\n`,
  deviceBegin: (device) =>
    `  <device dev_id="${device.id}" mapped_blocks="${device.mappedBlocks}" transaction="${device.transaction}" creation_time="${device.creationTime}" snap_time="${device.snapTime}">\n`,
  run: ({ begin, data, length, time }) =>
    length === 1
      ? `    <single_mapping origin_block="${begin}" data_block="${data}" time="${time}"/>\n`
      : `    <range_mapping origin_begin="${begin}" data_begin="${data}" length="${length}" time="${time}"/>\n`,
  deviceEnd: () => "  </device>\n",
  end: () => "</superblock>\n",
};

export const humanFormat: DumpFormat = {
  begin: (head) =>
    `begin superblock: "${head.uuid}", ${head.time}, ${head.transaction}, ${head.flags}, ${head.version}, ${head.dataBlockSize}, ${head.dataBlocks}\n`,
  deviceBegin: (device) =>
    `device: ${device.id}\nmapped_blocks: ${device.mappedBlocks}\ntransaction: ${device.transaction}\ncreation time: ${device.creationTime}\nsnap time: ${device.snapTime}\n`,
  run: ({ begin, data, length, time }) =>
    length === 1
      ? `    ${begin} -> ${data}, ${time}\n`
      : `    (${begin}..${begin + length - 1}) -> (${data}..${data + length - 1}), ${time}\n`,
  deviceEnd: () => "\n",
  end: () => "end superblock\n",
};

export const DUMP_FORMATS: Readonly<Record<"xml" | "human_readable", DumpFormat>> = {
  xml: xmlFormat,
  human_readable: humanFormat,
};
