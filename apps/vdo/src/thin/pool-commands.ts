/** The commands of `vdo thin` that make, run and change pools and their devices. */
import { resolve } from "node:path";
import { errorMessage } from "@vdo/base";
import {
  defaultPool,
  type PoolManager,
  type PoolSettings,
  poolName,
  servePool,
  type ThinVolumeSettings,
  volumeName,
} from "@vdo/manager";
import type { DiscardMode } from "@vdo/thin";
import { type Call, type Command, givenPlace, isGiven, managerOf, number, poolOf, text, usage } from "./call.ts";
import { TOOL_COMMANDS } from "./tool-commands.ts";
import { bytesOf, numberOf, sizeText } from "./values.ts";

const DEFAULT_BLOCK_SIZE = "64K";

/** `settings` with what the options say of features and size. */
function withFeatures(call: Call, settings: PoolSettings): PoolSettings {
  const given: Record<string, unknown> = {};
  const put = (key: keyof PoolSettings, value: unknown): void => {
    if (value !== undefined) given[key] = value;
  };
  put("lowWaterMark", number(call, "low_water_mark"));
  put("noSpaceTimeout", number(call, "no_space_timeout"));
  put("discard", text(call, "discard") as DiscardMode | undefined);
  put("blockZeroing", text(call, "block_zeroing"));
  put("errorIfNoSpace", text(call, "error_if_no_space"));
  put("readOnly", text(call, "read_only"));
  const size = text(call, "size");
  put("size", size === undefined ? undefined : bytesOf(size));
  return { ...settings, ...given };
}

/** A pool that the options describe anew, with the name that is given to it. */
function describedPool(call: Call): PoolSettings {
  const place = givenPlace(call);
  if (place === undefined) throw usage("say where the pool lies: --device, or --metadata-dev and --data-dev");
  const absolute = Object.fromEntries(
    Object.entries(place).map(([key, path]) => [key, /:\/\//.test(path) ? path : resolve(path)]),
  ) as unknown as typeof place;
  const name = text(call, "name");
  return withFeatures(call, defaultPool(name === undefined ? "" : volumeName(name), absolute));
}

async function createPool(call: Call): Promise<undefined> {
  const settings = describedPool(call);
  const [metadata, physical] = [text(call, "metadata_size"), text(call, "physical_size")];
  if (settings.device === "" && (metadata ?? physical) !== undefined) {
    throw usage("--metadata-size and --physical-size go with --device");
  }
  const line = await managerOf(call).create(settings, {
    blockSectors: bytesOf(text(call, "block_size") ?? DEFAULT_BLOCK_SIZE) / 512,
    ...(metadata === undefined ? {} : { metadataBytes: bytesOf(metadata) }),
    ...(physical === undefined ? {} : { physicalBytes: bytesOf(physical) }),
  });
  call.streams.out(`${line}\n`);
}

async function importPool(call: Call): Promise<undefined> {
  if (text(call, "name") === undefined) throw usage("give the name that the pool is to have: --name");
  await managerOf(call).import(describedPool(call));
}

async function removePool(call: Call): Promise<undefined> {
  await managerOf(call).remove((await namedPool(call)).name);
}

async function namedPool(call: Call): Promise<PoolSettings> {
  if (text(call, "name") === undefined) throw usage("give --name of a configured pool");
  return poolOf(call);
}

/** The pools that are meant: all of the configuration, or one. */
async function selected(call: Call, manager: PoolManager): Promise<PoolSettings[]> {
  if (!isGiven(call, "all")) return [await poolOf(call)];
  const pools: PoolSettings[] = [];
  for (const { name } of await manager.list()) pools.push(await manager.settings(name));
  return pools;
}

async function start(call: Call): Promise<number | undefined> {
  const { environment, streams } = call;
  const manager = managerOf(call);
  const given = text(call, "socket");
  const socket = given === undefined ? undefined : resolve(given);
  const all = isGiven(call, "all");
  if (all && isGiven(call, "foreground")) throw usage("--foreground serves one pool: give its name");
  const failures: unknown[] = [];
  for (const settings of await selected(call, manager)) {
    const wanted = withFeatures(call, settings);
    const say = (uri: string): void => streams.out(`${poolName(wanted)} is ready at ${uri}\n`);
    if (isGiven(call, "foreground")) {
      return servePool({ settings: wanted, socket, environment, onReady: ({ uri }) => say(uri) });
    }
    if (all && (await manager.running(settings)) !== undefined) continue;
    await manager.start(wanted, socket).then(say, (error: unknown) => failures.push(error));
  }
  // With --all every pool is tried; each failure is told, the last one is thrown.
  const last = failures.pop();
  for (const failure of failures) streams.err(`vdo thin: ${errorMessage(failure)}\n`);
  if (last !== undefined) throw last;
}

async function stop(call: Call): Promise<undefined> {
  const manager = managerOf(call);
  for (const settings of await selected(call, manager)) {
    if (isGiven(call, "all") && (await manager.running(settings)) === undefined) continue;
    await manager.stop(settings);
    call.streams.out(`${poolName(settings)} stopped\n`);
  }
}

/** Pools of the configuration; devices of a pool; devices in metadata at rest. */
async function listAll(call: Call): Promise<number | undefined> {
  if (call.words[0] !== undefined) return (TOOL_COMMANDS["ls"] as Command)(call);
  const manager = managerOf(call);
  if (text(call, "name") === undefined && givenPlace(call) === undefined) {
    const pools = await manager.list();
    call.streams.out(
      table(
        ["NAME", "STATE", "DEVICES", "URI"],
        pools.map(({ name, state, place, uri }) => [name, state, place, uri]),
      ),
    );
    return;
  }
  const settings = await poolOf(call);
  const { volumes, blockBytes } = await manager.volumes(settings);
  const rows = volumes.map((volume) => [
    String(volume.id),
    volume.sectors === 0 ? "-" : sizeText(volume.sectors * 512),
    sizeText(volume.mappedBlocks * blockBytes),
    String(volume.creationTime),
    String(volume.snapshottedTime),
    settings.volumes[String(volume.id)]?.origin || "-",
  ]);
  call.streams.out(table(["DEV", "SIZE", "MAPPED", "CREATE_TIME", "SNAP_TIME", "ORIGIN"], rows));
}

/** Columns to the left, as wide as they must be. */
function table(head: readonly string[], rows: readonly string[][]): string {
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => (row[i] as string).length)));
  const line = (row: readonly string[]): string =>
    row
      .map((cell, i) => cell.padEnd(widths[i] as number))
      .join("  ")
      .trimEnd();
  return `${[head, ...rows].map(line).join("\n")}\n`;
}

async function showStatus(call: Call): Promise<undefined> {
  call.streams.out(`${await managerOf(call).status(await poolOf(call))}\n`);
}

async function showTable(call: Call): Promise<undefined> {
  call.streams.out(`${await managerOf(call).table(await poolOf(call))}\n`);
}

async function modify(call: Call): Promise<undefined> {
  await managerOf(call).modify(await poolOf(call), (settings) => withFeatures(call, settings));
}

async function grow(call: Call): Promise<undefined> {
  const physical = text(call, "physical_size");
  const bytes = physical === undefined ? undefined : bytesOf(physical);
  call.streams.out(`${await managerOf(call).grow(await poolOf(call), bytes)}\n`);
}

async function message(call: Call, words: string): Promise<undefined> {
  await managerOf(call).message(await poolOf(call), words);
}

/** Size and origin of a new device, where one is given. */
function givenVolume(call: Call): ThinVolumeSettings | undefined {
  const [size, origin = ""] = [text(call, "size"), text(call, "origin")];
  if (size === undefined && origin === "") return undefined;
  const path = origin === "" || /:\/\//.test(origin) ? origin : resolve(origin);
  return { size: size === undefined ? 0 : bytesOf(size), origin: path };
}

async function createDevice(call: Call): Promise<undefined> {
  const id = numberOf(call.words[0] as string, "ID");
  await managerOf(call).createVolume(await poolOf(call), { id, volume: givenVolume(call) });
}

async function snapshotDevice(call: Call): Promise<undefined> {
  const [id, origin] = [numberOf(call.words[0] as string, "ID"), numberOf(call.words[1] as string, "ORIGIN")];
  await managerOf(call).createVolume(await poolOf(call), { id, origin });
}

async function deleteDevice(call: Call): Promise<undefined> {
  await managerOf(call).deleteVolume(await poolOf(call), numberOf(call.words[0] as string, "ID"));
}

export const POOL_COMMANDS: { readonly [name: string]: Command } = {
  "create-pool": createPool,
  "import-pool": importPool,
  "remove-pool": removePool,
  start,
  stop,
  list: listAll,
  status: showStatus,
  table: showTable,
  modify,
  grow,
  message: (call) => message(call, call.words[0] as string),
  create: createDevice,
  snapshot: snapshotDevice,
  delete: deleteDevice,
  "reserve-metadata-snap": (call) => message(call, "reserve_metadata_snap"),
  "release-metadata-snap": (call) => message(call, "release_metadata_snap"),
};
