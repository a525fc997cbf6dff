/** A pool with many mappings: opening it, and our check and dump beside thin_check and thin_dump, as processes. */
import { spawnSync } from "node:child_process";
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Random } from "@vdo/base";
import { FileDevice, MemoryDevice } from "@vdo/block-device";
import { requirePrograms } from "@vdo/block-device/testing";
import { restore, ThinPool } from "@vdo/thin";
import { spreadOf } from "./median.ts";
import { align } from "./table.ts";

export interface ThinToolFigures {
  mappings: number;
  openMilliseconds: number;
  /** Seconds each; undefined where the original is not there. */
  tools: { name: string; ours: number; theirs: number | undefined }[];
}

interface Options {
  folder: string;
  mappings: number;
  rounds: number;
  say(text: string): void;
}

/** Ten devices, every mapping by itself: nothing joins into runs. */
async function* xmlOf(mappings: number): AsyncGenerator<string> {
  const random = new Random(1);
  const [devices, each] = [10, Math.floor(mappings / 10)];
  const head = `data_block_size="128" nr_data_blocks="${4 * mappings}"`;
  yield `<superblock uuid="" time="1" transaction="1" flags="0" version="2" ${head}>\n`;
  for (let id = 0; id < devices; id++) {
    yield `<device dev_id="${id}" mapped_blocks="${each}" transaction="0" creation_time="0" snap_time="0">\n`;
    let text = "";
    for (let i = 0; i < each; i++) {
      const block = 4 * (id * each + i) + random.below(4);
      text += `<single_mapping origin_block="${2 * i}" data_block="${block}" time="0"/>\n`;
      if (i % 1000 === 999) {
        yield text;
        text = "";
      }
    }
    yield `${text}</device>\n`;
  }
  yield "</superblock>\n";
}

function seconds(program: string, words: readonly string[]): number {
  const began = performance.now();
  const result = spawnSync(program, words, { maxBuffer: 1 << 30, stdio: ["ignore", "pipe", "pipe"] });
  if (result.status !== 0) throw new Error(`${program} ${words.join(" ")}: ${result.stderr}`);
  return (performance.now() - began) / 1000;
}

export async function measureThinTools({ folder, mappings, rounds, say }: Options): Promise<ThinToolFigures> {
  say(`a pool with ${mappings} mappings`);
  const path = join(folder, "many.metadata");
  writeFileSync(path, "");
  truncateSync(path, 128 * 2 ** 20);
  const device = await FileDevice.open({ path });
  await restore(xmlOf(mappings), device);
  await device.close();
  const opens: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const metadata = await FileDevice.open({ path });
    const data = new MemoryDevice({ blockCount: 4 * mappings * 16 });
    const began = performance.now();
    const pool = await ThinPool.open({ metadata, data, blockSectors: 128 });
    opens.push(performance.now() - began);
    await pool.close();
    await metadata.close();
  }
  const vdo = fileURLToPath(new URL("../../../apps/vdo/dist/main.js", import.meta.url));
  const hasTools = requirePrograms("thin_check", "thin_dump").missing.length === 0;
  const tools: ThinToolFigures["tools"] = [];
  for (const name of ["check", "dump"]) {
    const [ours, theirs]: [number[], number[]] = [[], []];
    for (let round = 0; round < rounds; round++) {
      say(`${name}, round ${round + 1}`);
      ours.push(seconds(process.execPath, [vdo, "thin", name, path]));
      if (hasTools) theirs.push(seconds(`thin_${name}`, [path]));
    }
    tools.push({
      name: `thin_${name}`,
      ours: spreadOf(ours).median,
      theirs: hasTools ? spreadOf(theirs).median : undefined,
    });
  }
  return { mappings, openMilliseconds: spreadOf(opens).median, tools };
}

export function thinToolsTable({ mappings, openMilliseconds, tools }: ThinToolFigures): string {
  const time = (value: number | undefined): string => (value === undefined ? "-" : `${value.toFixed(2)} s`);
  return align([
    [`a pool with ${mappings.toLocaleString("en-US")} mappings`, "ours", "original", "ratio"],
    ["opening it", `${openMilliseconds.toFixed(1)} ms`, "", ""],
    ...tools.map(({ name, ours, theirs }) => [
      `as ${name}`,
      time(ours),
      time(theirs),
      theirs === undefined ? "-" : (ours / theirs).toFixed(2),
    ]),
  ]);
}
