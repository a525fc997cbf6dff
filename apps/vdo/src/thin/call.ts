/** What every command of `vdo thin` works with. */
import { VdoError } from "@vdo/base";
import { type BlockDevice, FileDevice } from "@vdo/block-device";
import { defaultPool, type Environment, isNbdUri, PoolManager, type PoolSettings, placeOf } from "@vdo/manager";
import { NbdClient } from "@vdo/nbd";
import { SplitDevice } from "@vdo/thin";
import type { Streams } from "../parser.ts";
import { numberOf } from "./values.ts";

export interface Call {
  args: Readonly<Record<string, unknown>>;
  words: (string | undefined)[];
  streams: Streams;
  environment: Environment;
}

/** Resolves with the exit status; undefined is success. */
export type Command = (call: Call) => Promise<number | undefined>;

export const text = ({ args }: Call, name: string): string | undefined => {
  const value = args[name];
  return typeof value === "string" ? value : undefined;
};
export const list = ({ args }: Call, name: string): string[] => (args[name] as string[] | null | undefined) ?? [];
export const number = (call: Call, name: string): number | undefined => {
  const value = text(call, name);
  return value === undefined ? undefined : numberOf(value, `--${name.replaceAll("_", "-")}`);
};
export const isGiven = ({ args }: Call, name: string): boolean => args[name] === true;

export function usage(message: string): VdoError {
  return new VdoError("VDO_BAD_ARGUMENT", message, { argument: "options", value: "" });
}

/** Opens a file, a block device or an NBD export (of a VDO volume, say) for the time of `act`. */
export async function withDevice<T>(
  path: string,
  readOnly: boolean,
  act: (device: BlockDevice) => Promise<T>,
): Promise<T> {
  const device = isNbdUri(path)
    ? await NbdClient.connect(path, { readOnly })
    : await FileDevice.open({ path, readOnly });
  try {
    return await act(device);
  } finally {
    await device.close();
  }
}

/** The same for metadata: of a device that carries a label, the part that holds it. */
export function withMetadataDevice<T>(
  path: string,
  readOnly: boolean,
  act: (device: BlockDevice) => Promise<T>,
): Promise<T> {
  return withDevice(path, readOnly, async (device) => {
    const isLabelled = await SplitDevice.isLabelled(device);
    return act(isLabelled ? (await SplitDevice.open(device)).metadata : device);
  });
}

export function managerOf(call: Call): PoolManager {
  return new PoolManager({
    environment: call.environment,
    configurationFile: text(call, "confFile"),
    onText: (line) => call.streams.err(`${line}\n`),
  });
}

/** The place that the options name; undefined without one. Throws `VDO_BAD_ARGUMENT` for half of one. */
export function givenPlace(call: Call): { device: string } | { metadata: string; data: string } | undefined {
  const [device, metadata, data] = ["device", "metadata_dev", "data_dev"].map((name) => text(call, name));
  if (device === undefined && metadata === undefined && data === undefined) return undefined;
  if (device !== undefined && metadata === undefined && data === undefined) return { device };
  if (device === undefined && metadata !== undefined && data !== undefined) return { metadata, data };
  throw usage("give --device, or --metadata-dev and --data-dev");
}

/** The pool that the options name: one of the configuration, or one by its devices. */
export async function poolOf(call: Call): Promise<PoolSettings> {
  const [name, place] = [text(call, "name"), givenPlace(call)];
  if ((name === undefined) === (place === undefined)) {
    throw usage("name the pool: --name of a configured one, or --device, or --metadata-dev and --data-dev");
  }
  return name === undefined ? defaultPool("", place as NonNullable<typeof place>) : managerOf(call).settings(name);
}

/** Path of the metadata that a tool reads: its word, or that of a configured pool. */
async function metadataPath(call: Call): Promise<string> {
  const [name, [word]] = [text(call, "name"), call.words];
  if ((name === undefined) === (word === undefined)) throw usage("give METADATA, or --name of a configured pool");
  if (word !== undefined) return word;
  const place = placeOf(await managerOf(call).settings(name as string));
  return "device" in place ? place.device : place.metadata;
}

/**
 * Opens metadata for the time of `act`: a device of its own, or the part of a device that carries a label. What another
 * process is changing is refused, except `whileRunning`: for what reads the metadata snapshot only.
 */
export async function withMetadata<T>(
  call: Call,
  { readOnly, whileRunning }: { readOnly: boolean; whileRunning: boolean },
  act: (device: BlockDevice) => Promise<T>,
): Promise<T> {
  const path = await metadataPath(call);
  return withDevice(path, readOnly, async (device) => {
    const split = (await SplitDevice.isLabelled(device)) ? await SplitDevice.open(device) : undefined;
    const settings = defaultPool("", split === undefined ? { metadata: path, data: "" } : { device: path });
    if (!whileRunning && (await managerOf(call).running(settings)) !== undefined) {
      throw usage(`the pool of ${path} is running: read its metadata snapshot (-m), or stop it`);
    }
    return act(split?.metadata ?? device);
  });
}

export const readMetadata = <T>(call: Call, act: (device: BlockDevice) => Promise<T>): Promise<T> => {
  const whileRunning = isGiven(call, "metadata_snap") || text(call, "metadata_snap_block") !== undefined;
  return withMetadata(call, { readOnly: true, whileRunning }, act);
};
