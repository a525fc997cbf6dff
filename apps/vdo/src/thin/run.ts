/** `vdo thin`: runs one command on the metadata of a pool, or on a pool at rest. */
import { createReadStream } from "node:fs";
import { open } from "node:fs/promises";
import { resolve } from "node:path";
import { errorMessage, isVdoError } from "@vdo/base";
import { type BlockDevice, FileDevice, MemoryDevice } from "@vdo/block-device";
import { askThin, type Environment, isNbdUri, ThinServer, thinStatus } from "@vdo/manager";
import { NbdClient } from "@vdo/nbd";
import {
  check,
  clearNeedsCheck,
  decodeSuperblock,
  delta,
  dump,
  fixLeaks,
  formatDelta,
  formatReverseMap,
  isHealthy,
  ls,
  metadataBytes,
  parseRegion,
  type RestoreOptions,
  repair,
  restore,
  reverseMap,
  ThinPool,
  trim,
} from "@vdo/thin";
import { ParseEnd, type Streams } from "../parser.ts";
import { FAILURE_STATUS, parseThin } from "./grammar.ts";
import { bytesOf, inUnit, numberOf } from "./values.ts";

interface Call {
  args: Readonly<Record<string, unknown>>;
  words: string[];
  streams: Streams;
  environment: Environment;
}

type Command = (call: Call) => Promise<number | undefined>;

const text = ({ args }: Call, name: string): string | undefined => {
  const value = args[name];
  return typeof value === "string" ? value : undefined;
};
const list = ({ args }: Call, name: string): string[] => (args[name] as string[] | null | undefined) ?? [];
const number = (call: Call, name: string): number | undefined => {
  const value = text(call, name);
  return value === undefined ? undefined : numberOf(value, `--${name.replaceAll("_", "-")}`);
};

/** Opens a file, a block device or an NBD export (of a VDO volume, say) for the time of `act`. */
async function withDevice<T>(path: string, readOnly: boolean, act: (device: BlockDevice) => Promise<T>): Promise<T> {
  const device = isNbdUri(path)
    ? await NbdClient.connect(path, { readOnly })
    : await FileDevice.open({ path, readOnly });
  try {
    return await act(device);
  } finally {
    await device.close();
  }
}

const readMetadata = <T>(call: Call, act: (device: BlockDevice) => Promise<T>): Promise<T> =>
  withDevice(call.words[0] as string, true, act);

/** `metadataSnapshot` of the library, from the switch and the block. */
function snapshotOf(call: Call): { metadataSnapshot: boolean | number } {
  return { metadataSnapshot: number(call, "metadata_snap_block") ?? call.args["metadata_snap"] === true };
}

async function checkMetadata(call: Call): Promise<number> {
  const { args, streams } = call;
  const [mapping, details] = [number(call, "override_mapping_root"), number(call, "override_details_root")];
  const [repairs, clears] = [args["auto_repair"] === true, args["clear_needs_check_flag"] === true];
  const isPartial = args["metadata_snap"] === true || mapping !== undefined || details !== undefined;
  if ((repairs || clears) && isPartial) {
    streams.err(
      "--auto-repair and --clear-needs-check-flag do not go with -m or other roots: they need the whole check\n",
    );
    return FAILURE_STATUS;
  }
  return withDevice(call.words[0] as string, !repairs && !clears, async (device) => {
    const options = {
      superblockOnly: args["super_block_only"] === true,
      skipMappings: args["skip_mappings"] === true,
      metadataSnapshot: args["metadata_snap"] === true,
      ...(mapping === undefined ? {} : { overrideMappingRoot: mapping }),
      ...(details === undefined ? {} : { overrideDetailsRoot: details }),
    };
    let report = await check(device, options);
    const say = args["quiet"] === true ? () => {} : streams;
    if (typeof say !== "function") {
      for (const { severity, structure, text: what } of report.problems)
        say.err(`${severity}: ${structure}: ${what}\n`);
      if (report.superblock !== undefined) {
        say.out(`TRANSACTION_ID=${report.superblock.transactionId}\nMETADATA_FREE_BLOCKS=${report.freeBlocks}\n`);
      }
    }
    if (repairs && report.leaks.length > 0) {
      const count = await fixLeaks(device, report);
      if (typeof say !== "function") say.err(`${count} leaked blocks were freed\n`);
      report = await check(device, options);
    }
    const healthy = isHealthy(report, args["ignore_non_fatal_errors"] === true);
    if (clears && healthy) await clearNeedsCheck(device, report);
    return healthy ? 0 : FAILURE_STATUS;
  });
}

async function dumpMetadata(call: Call): Promise<number | undefined> {
  const { args, streams } = call;
  const output = text(call, "output");
  const file = output === undefined ? undefined : await open(output, "w");
  const devices = list(call, "dev_id").map((id) => numberOf(id, "--dev-id"));
  const options = {
    ...snapshotOf(call),
    format: (text(call, "format") ?? "xml") as "xml" | "human_readable",
    skipMappings: args["skip_mappings"] === true,
    ...(devices.length === 0 ? {} : { devices }),
  };
  try {
    await readMetadata(call, async (device) => {
      const source = args["repair"] === true ? await repaired(device) : device;
      for await (const piece of dump(source, options)) {
        if (file === undefined) streams.out(piece);
        else await file.write(piece);
      }
    });
    return undefined;
  } catch (error) {
    if (!isVdoError(error, "VDO_CORRUPT")) throw error;
    streams.err(
      "metadata contains errors (run vdo thin check for details).\nperhaps you wanted to run with --repair\n",
    );
    streams.err(`${errorMessage(error)}\n`);
    return FAILURE_STATUS;
  } finally {
    await file?.close();
  }
}

/** What can be read of `device`, as new metadata in memory. */
async function repaired(device: BlockDevice): Promise<BlockDevice> {
  const blockCount = Math.max(1024, device.blockCount + 64);
  const copy = new MemoryDevice({ blockCount });
  await repair(device, copy);
  return copy;
}

function overridesOf(call: Call): RestoreOptions {
  const id = text(call, "transaction_id");
  const [size, blocks] = [number(call, "data_block_size"), number(call, "nr_data_blocks")];
  return {
    ...(id === undefined ? {} : { transactionId: BigInt(numberOf(id, "--transaction-id")) }),
    ...(size === undefined ? {} : { dataBlockSize: size }),
    ...(blocks === undefined ? {} : { dataBlocks: blocks }),
  };
}

async function restoreMetadata(call: Call): Promise<undefined> {
  const pieces = createReadStream(text(call, "input") as string, { encoding: "utf8" });
  await withDevice(text(call, "output") as string, false, (device) => restore(pieces, device, overridesOf(call)));
}

async function repairMetadata(call: Call): Promise<undefined> {
  const [input, output] = [text(call, "input") as string, text(call, "output") as string];
  await withDevice(input, true, (source) =>
    withDevice(output, false, async (target) => {
      const { devices, lost } = await repair(source, target, overridesOf(call));
      for (const { tree, begin, end, text: why } of lost) {
        call.streams.err(`lost: ${tree}, ${begin} to ${end === Number.POSITIVE_INFINITY ? "the end" : end}: ${why}\n`);
      }
      call.streams.out(`${devices.length} devices were kept\n`);
    }),
  );
}

async function listDevices(call: Call): Promise<undefined> {
  const fields = text(call, "format")?.split(",");
  const options = { ...snapshotOf(call), noHeaders: call.args["no_headers"] === true };
  await readMetadata(call, async (device) => {
    call.streams.out(await ls(device, { ...options, ...(fields === undefined ? {} : { fields }) }));
  });
}

async function showDelta(call: Call): Promise<undefined> {
  const [left, right] = [number(call, "thin1") as number, number(call, "thin2") as number];
  await readMetadata(call, async (device) => {
    const found = await delta(device, { left, right, ...snapshotOf(call) });
    call.streams.out(formatDelta(found, call.args["verbose"] === true));
  });
}

async function showReverseMap(call: Call): Promise<undefined> {
  const regions = list(call, "region").map(parseRegion);
  await readMetadata(call, async (device) => call.streams.out(formatReverseMap(await reverseMap(device, regions))));
}

async function trimPool(call: Call): Promise<undefined> {
  await withDevice(text(call, "metadata_dev") as string, true, (metadata) =>
    withDevice(text(call, "data_dev") as string, false, async (data) => {
      call.streams.out(`${await trim(metadata, data)} data blocks were discarded\n`);
    }),
  );
}

async function metadataSize(call: Call): Promise<undefined> {
  const bytes = metadataBytes({
    blockBytes: bytesOf(text(call, "block_size") as string),
    poolBytes: bytesOf(text(call, "pool_size") as string),
    thins: numberOf(text(call, "max_thins") as string, "--max-thins"),
  });
  const unit = text(call, "unit") ?? "s";
  const name = { b: "bytes", s: "sectors" }[unit] ?? `${unit.toUpperCase()}iB`;
  call.streams.out(`${inUnit(bytes, unit)}${call.args["numeric_only"] === true ? "" : ` ${name}`}\n`);
}

/** Opens the pool on the two devices for the time of `act`. `blockSectors`: for a new pool; else its own. */
async function withPool<T>(call: Call, act: (pool: ThinPool) => Promise<T>, blockSectors?: number): Promise<T> {
  return withDevice(text(call, "metadata_dev") as string, false, (metadata) =>
    withDevice(text(call, "data_dev") as string, false, async (data) => {
      const sectors = blockSectors ?? (await blockSectorsOf(metadata));
      const onEvent = ({ text: line }: { text: string }): void => call.streams.err(`${line}\n`);
      const pool = await ThinPool.open({ metadata, data, blockSectors: sectors, onEvent });
      try {
        return await act(pool);
      } finally {
        await pool.close();
      }
    }),
  );
}

async function blockSectorsOf(metadata: BlockDevice): Promise<number> {
  const block = new Uint8Array(4096);
  await metadata.read(0, block);
  return decodeSuperblock(block).dataBlockSectors;
}

async function createPool(call: Call): Promise<number | undefined> {
  const path = text(call, "metadata_dev") as string;
  const isBlank = await withDevice(path, true, async (metadata) => {
    const block = new Uint8Array(4096);
    await metadata.read(0, block);
    return block.every((byte) => byte === 0);
  });
  if (!isBlank) {
    call.streams.err(`${path} is not blank: zero its first 4096 bytes if what is there may be lost\n`);
    return FAILURE_STATUS;
  }
  const sectors = bytesOf(text(call, "block_size") ?? "64K") / 512;
  return withPool(call, async (pool) => void call.streams.out(`${await pool.status()}\n`), sectors);
}

/** Sends a message to the running pool, or to the pool at rest. */
async function message(call: Call, words: string): Promise<undefined> {
  const metadata = text(call, "metadata_dev") as string;
  if ((await thinStatus(call.environment, metadata)) === undefined) {
    return withPool(call, async (pool) => void (await pool.message(words)));
  }
  await askThin(call.environment, metadata, "message", { text: words });
}

async function status(call: Call): Promise<undefined> {
  const running = await thinStatus(call.environment, text(call, "metadata_dev") as string);
  if (running === undefined) return withPool(call, async (pool) => void call.streams.out(`${await pool.status()}\n`));
  call.streams.out(`${running}\n`);
}

async function start(call: Call): Promise<number> {
  const { environment, streams } = call;
  const socket = text(call, "socket");
  const server = await ThinServer.start({
    metadata: text(call, "metadata_dev") as string,
    data: text(call, "data_dev") as string,
    sectors: bytesOf(text(call, "size") as string) / 512,
    environment,
    onText: (line) => streams.err(`${line}\n`),
    ...(socket === undefined ? {} : { socket: resolve(socket) }),
  });
  const stop = (): void => {
    server.stop().catch((error: unknown) => streams.err(`${errorMessage(error)}\n`));
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, stop);
  streams.out(`thin pool ${text(call, "metadata_dev")} is ready at ${server.uri}\n`);
  await server.ended;
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.removeListener(signal, stop);
  return 0;
}

async function stop(call: Call): Promise<undefined> {
  await askThin(call.environment, text(call, "metadata_dev") as string, "stop");
}

const COMMANDS: { readonly [name: string]: Command } = {
  "create-pool": createPool,
  message: (call) => message(call, call.words[0] as string),
  create: (call) => message(call, `create_thin ${call.words[0]}`),
  snapshot: (call) => message(call, `create_snap ${call.words[0]} ${call.words[1]}`),
  delete: (call) => message(call, `delete ${call.words[0]}`),
  status,
  start,
  stop,
  list: listDevices,
  check: checkMetadata,
  dump: dumpMetadata,
  restore: restoreMetadata,
  repair: repairMetadata,
  ls: listDevices,
  delta: showDelta,
  rmap: showReverseMap,
  trim: trimPool,
  "metadata-size": metadataSize,
};

/** Runs `vdo thin WORDS`; resolves with the exit status. */
export async function runThin(words: readonly string[], streams: Streams, environment: Environment): Promise<number> {
  try {
    const parsed = parseThin(words, streams);
    return (await (COMMANDS[parsed.name] as Command)({ ...parsed, streams, environment })) ?? 0;
  } catch (error) {
    if (error instanceof ParseEnd) return error.status;
    streams.err(`vdo thin: ${errorMessage(error)}\n`);
    return FAILURE_STATUS;
  }
}
