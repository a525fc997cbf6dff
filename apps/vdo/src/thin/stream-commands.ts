/** `vdo thin send` and `vdo thin receive`: snapshots, and what changed between them, as streams. */
import { createReadStream, createWriteStream } from "node:fs";
import { type FileHandle, mkdtemp, open, rm, stat, truncate } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { Readable, Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { fromHex, isVdoError, toHex, VdoError } from "@vdo/base";
import { type BlockDevice, FileDevice } from "@vdo/block-device";
import { isNbdUri, type PoolManager, type PoolSettings, sectorsOf } from "@vdo/manager";
import { NbdClient } from "@vdo/nbd";
import { receive, type SendReport, send, type VerifiedStream, verifyStream } from "@vdo/thin";
import { type Call, type Command, givenPlace, isGiven, managerOf, number, poolOf, text, usage } from "./call.ts";
import { StepProgress } from "./step-progress.ts";
import { bytesOf } from "./values.ts";

/** Reserves the metadata snapshot of a running pool for the time of `act`, unless the one that is held is to be read. */
async function withSnapshot<T>(
  call: Call,
  { manager, settings }: { manager: PoolManager; settings: PoolSettings },
  act: (fromSnapshot: boolean) => Promise<T>,
): Promise<T> {
  if (isGiven(call, "metadata_snap")) return act(true);
  const running = await manager.running(settings);
  if (running === undefined) return act(false);
  if (running.heldRoot !== 0) {
    throw usage(
      "a metadata snapshot is held already: release it (vdo thin release-metadata-snap), or give -m to send what it shows",
    );
  }
  await manager.message(settings, "reserve_metadata_snap");
  try {
    return await act(true);
  } finally {
    await manager.message(settings, "release_metadata_snap");
  }
}

async function sendDevice(call: Call): Promise<undefined> {
  const manager = managerOf(call);
  const settings = await poolOf(call);
  const device = number(call, "thin") as number;
  const base = number(call, "base");
  const digest = givenDigest(call);
  const progress = new StepProgress(call.streams, isGiven(call, "quiet"));
  const report = await withSnapshot(call, { manager, settings }, (fromSnapshot) =>
    manager.withSource(settings, async ({ metadata, data }) => {
      const sectors = await virtualSectors(call, { manager, settings }, device);
      const producer = send({
        metadata,
        data,
        device,
        metadataSnapshot: fromSnapshot,
        onProgress: (state) => progress.show(state),
        ...(base === undefined ? {} : { base }),
        ...(digest === undefined ? {} : { baseDigest: digest }),
        ...(sectors === undefined ? {} : { sectors }),
      });
      return writeOut(call, producer);
    }),
  );
  progress.end();
  const what = `device ${device}${base === undefined ? "" : `, changes since device ${base}`}`;
  const { records, payloadBytes, bytes } = report;
  progress.say(`sent ${what}: ${records} records, ${payloadBytes} bytes of content, ${bytes} bytes in all`);
  progress.say(`digest ${toHex(report.digest)}`);
}

function givenDigest(call: Call): Uint8Array | undefined {
  const hex = text(call, "base_digest");
  if (hex === undefined) return undefined;
  if (!/^[0-9a-f]{64}$/i.test(hex)) throw usage(`--base-digest ${hex} is not a digest of 64 hexadecimal digits`);
  return fromHex(hex);
}

async function virtualSectors(
  call: Call,
  { manager, settings }: { manager: PoolManager; settings: PoolSettings },
  device: number,
): Promise<number | undefined> {
  const given = text(call, "size");
  if (given !== undefined) return Math.ceil(bytesOf(given) / 512);
  const served = (await manager.running(settings))?.volumes.find(({ id }) => id === device);
  return served?.sectors ?? sectorsOf(settings, device);
}

/** Writes the stream to its file, whole or not at all, or to standard output. A signal ends it in order. */
async function writeOut(call: Call, producer: AsyncGenerator<Uint8Array, SendReport>): Promise<SendReport> {
  const output = text(call, "output");
  const { stdout } = call.streams;
  if (output === undefined && (stdout === undefined || (stdout as { isTTY?: boolean }).isTTY === true)) {
    throw usage("a stream does not go to a terminal: give --output, or send it on through a pipe");
  }
  let report: SendReport | undefined;
  const pieces = async function* (): AsyncGenerator<Uint8Array> {
    report = yield* producer;
  };
  const stop = new AbortController();
  const abort = (): void => stop.abort(new Error("stopped by a signal"));
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, abort);
  try {
    const { signal } = stop;
    if (output === undefined) await pipeline(pieces, stdout as Writable, { end: false, signal });
    else await pipeline(pieces, createWriteStream(output, { mode: 0o600 }), { signal });
  } catch (error) {
    if (output !== undefined) await rm(output, { force: true });
    throw stop.signal.aborted ? stop.signal.reason : error;
  } finally {
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.removeListener(signal, abort);
  }
  return report as unknown as SendReport;
}

/** A stream that can be read again, and was found right. */
interface Kept {
  verified: VerifiedStream;
  stream(): AsyncIterable<Uint8Array>;
}

async function receiveDevice(call: Call): Promise<undefined> {
  const progress = new StepProgress(call.streams, isGiven(call, "quiet"));
  await withStream(call, progress, async (kept) => {
    const [output, place] = [text(call, "output"), givenPlace(call) ?? text(call, "name")];
    if ((output === undefined) === (place === undefined)) {
      throw usage(
        "say what to write: --output FILE, or a pool (--name, or --device, or --metadata-dev and --data-dev) and --thin ID",
      );
    }
    if (output === undefined) await receiveIntoPool(call, kept, progress);
    else await receiveIntoFile(call, { kept, path: resolve(output), progress });
    progress.end();
    const { trailer, bytes } = kept.verified;
    progress.say(
      `received ${trailer.records} records, ${trailer.payloadBytes} bytes of content, onto ${bytes} bytes: verified`,
    );
    progress.say(`digest ${toHex(trailer.resultDigest)}`);
  });
}

/** The stream from its file, or from standard input by way of a file, read once and found right. */
async function withStream(call: Call, progress: StepProgress, act: (kept: Kept) => Promise<void>): Promise<void> {
  const input = text(call, "input");
  if (input !== undefined && (await stat(input)).isFile()) {
    const stream = (): AsyncIterable<Uint8Array> => createReadStream(input, { highWaterMark: 1 << 20 });
    await act({ stream, verified: await verifyStream(stream(), (state) => progress.show(state)) });
    return;
  }
  const source = input === undefined ? call.streams.stdin : createReadStream(input);
  if (source === undefined || (source as { isTTY?: boolean }).isTTY === true) {
    throw usage("a stream is not read from a terminal: give --input, or a pipe");
  }
  const folder = await mkdtemp(join(text(call, "spool") ?? call.environment.temporaryFolder, "vdo-stream-"));
  const path = join(folder, "stream");
  try {
    const file = await open(path, "wx", 0o600);
    let verified: VerifiedStream;
    try {
      verified = await verifyStream(tee(source, file), (state) => progress.show(state));
    } finally {
      await file.close();
    }
    await act({ verified, stream: () => createReadStream(path, { highWaterMark: 1 << 20 }) });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function* tee(source: Readable, file: FileHandle): AsyncGenerator<Uint8Array> {
  for await (const piece of source) {
    const bytes = piece as Uint8Array;
    for (let at = 0; at < bytes.length; ) at += (await file.write(bytes, at)).bytesWritten;
    yield bytes;
  }
}

/** Of a pool: a new device, or a snapshot of the one that holds the base, which is deleted again when receiving fails. */
async function receiveIntoPool(call: Call, { verified, stream }: Kept, progress: StepProgress): Promise<void> {
  const manager = managerOf(call);
  const settings = await poolOf(call);
  const id = number(call, "thin");
  if (id === undefined) throw usage("say which thin device to write: --thin ID");
  const base = number(call, "base");
  if (base !== undefined && !verified.hasBase) throw usage("the stream has no base: leave out --base");
  const sectors = Math.max(128, Math.ceil(verified.header.sectors / 128) * 128);
  const isNew = base !== undefined || !verified.hasBase;
  if (isNew) {
    const volume = settings.name === "" ? undefined : { size: sectors * 512, origin: "" };
    await manager.createVolume(settings, { id, origin: base, volume });
  }
  try {
    await manager.withVolume(settings, { id, sectors }, async (target) => {
      await receive({ stream, target, isBlank: isNew && base === undefined, ...howToReceive(call, progress) });
    });
  } catch (error) {
    if (isNew) await manager.deleteVolume(settings, id);
    throw error;
  }
}

function howToReceive(call: Call, progress: StepProgress) {
  return {
    overwrite: isGiven(call, "overwrite"),
    resume: isGiven(call, "resume"),
    onProgress: (state: Parameters<StepProgress["show"]>[0]) => progress.show(state),
  };
}

interface FileTarget {
  kept: Kept;
  path: string;
  progress: StepProgress;
}

/** A file, a block device or an NBD export. A file that is not there is made, one that is too short is made longer. */
async function receiveIntoFile(call: Call, { kept, path, progress }: FileTarget): Promise<void> {
  const uri = text(call, "output") as string;
  const how = howToReceive(call, progress);
  if (isNbdUri(uri)) {
    const target = await NbdClient.connect(uri);
    await receive({ stream: kept.stream, target, ...how }).finally(() => target.close());
    return;
  }
  const before = await stat(path).catch(() => undefined);
  const isFile = before === undefined || before.isFile();
  if (before === undefined) {
    if (kept.verified.hasBase) throw noBase(path);
    await (await open(path, "wx", 0o600)).close();
  }
  const { bytes } = kept.verified;
  const grows = isFile && (before?.size ?? 0) < bytes;
  if (grows) await truncate(path, bytes);
  let target: BlockDevice | undefined;
  try {
    target = await FileDevice.open({ path, blockSize: 512 });
    await receive({ stream: kept.stream, target, isBlank: before === undefined, ...how });
    await target.close();
  } catch (error) {
    await target?.close();
    if (before === undefined) await rm(path, { force: true });
    else if (grows && !isVdoError(error, "VDO_IO")) await truncate(path, before.size);
    throw error;
  }
}

function noBase(path: string): VdoError {
  const message = `${path} is not there, and the stream changes a base: receive the base first`;
  return new VdoError("VDO_THIN_BASE", message, { expected: "the base", actual: "nothing" });
}

export const STREAM_COMMANDS: { readonly [name: string]: Command } = { send: sendDevice, receive: receiveDevice };
