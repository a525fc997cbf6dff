/** `vdo ploop`: runs one command, on a disk at rest or through the daemon of a running one. */
import { basename, dirname, relative, resolve } from "node:path";
import { errorMessage, VdoError } from "@vdo/base";
import {
  actOnBitmapsAtRest,
  askPloop,
  BITMAP_ACTIONS,
  type BitmapAction,
  type BitmapReport,
  type BitmapRequest,
  copyDisk,
  createPloopDisk,
  type Environment,
  loadPloopDisk,
  type PloopStatus,
  ploopStatus,
} from "@vdo/manager";
import {
  type CheckReport,
  checkImage,
  type ImageMode,
  NodeFile,
  type PloopDisk,
  sameGuid,
  statusLine,
} from "@vdo/ploop";
import { ParseEnd, type Streams } from "../parser.ts";
import { PARAMETER_STATUS, parsePloop } from "./grammar.ts";
import { startDisk } from "./start.ts";
import { guidOf, ploopStatusOf, sectorsOf, uuidOf } from "./values.ts";

interface Call {
  args: Readonly<Record<string, unknown>>;
  words: string[];
  /** Absolute path of the first word. */
  path: string;
  streams: Streams;
  environment: Environment;
  /** Shows how far long work is, on a terminal. */
  progress(done: number, total: number): void;
}

/** Between two looks at how far a daemon is. */
const POLL_MS = 300;

type Command = (call: Call) => Promise<number | undefined>;

const text = (call: Call, name: string): string | undefined => {
  const value = call.args[name];
  return typeof value === "string" ? value : undefined;
};

function daemonOf(call: Call): Promise<PloopStatus | undefined> {
  return ploopStatus(call.environment, call.path);
}

/** For what is not done to a disk that somebody serves, be it read-only. */
async function refuseRunning(call: Call): Promise<void> {
  if ((await daemonOf(call)) === undefined) return;
  throw new VdoError("VDO_PLOOP_DIRTY", `${call.path} is running; stop it first`, { image: call.path });
}

const say = ({ streams }: Call, line: string): undefined => {
  streams.out(`${line}\n`);
};

async function init(call: Call): Promise<undefined> {
  const format = text(call, "format") ?? "ploop1";
  const mode = (format === "ploop1" ? "expanded" : format) as ImageMode;
  const clusterSectors = Number(text(call, "blocksize") ?? "2048");
  const version = text(call, "version") === "1" ? 1 : 2;
  const sizeSectors = sectorsOf(text(call, "size") as string);
  const disk = await createPloopDisk(call.path, { version, sizeSectors, clusterSectors, mode });
  const size = disk.descriptor.sizeSectors;
  say(call, `Creating delta ${call.path} bs=${clusterSectors} size=${size} sectors v${version}`);
  say(call, `Adding snapshot ${disk.descriptor.topGuid}`);
  return say(call, `Storing ${resolve(dirname(call.path), disk.name)}`);
}

async function info(call: Call): Promise<undefined> {
  const disk = await loadPloopDisk(call.path);
  const { clusterSectors, sizeSectors, mode, images } = disk.descriptor;
  let [version, size] = [0, sizeSectors];
  if (mode !== "raw" || images.length > 1) {
    const device = await disk.open({ readOnly: true });
    version = Number(/ v(\d)/.exec(statusLine(device))?.[1]);
    size = (device.blockCount * device.blockSize) / 512;
    await device.close();
  }
  return say(call, `size:\t\t${size}\nblocksize:\t${clusterSectors}\nfmt_version:\t${version}`);
}

async function check(call: Call): Promise<number> {
  const { args } = call;
  const guid = text(call, "uuid");
  const options = {
    force: args["force"] === true,
    hardForce: args["hard_force"] === true,
    dropInUse: args["drop_inuse"] === true,
    readOnly: args["ro"] === true,
    ...(guid === undefined ? {} : { guid: guidOf(guid) }),
  };
  const reports: { file: string; report: CheckReport }[] = [];
  if (call.path.endsWith(".xml")) {
    if (!options.readOnly) await refuseRunning(call);
    reports.push(...(await (await loadPloopDisk(call.path)).check(options)));
  } else {
    const file = await NodeFile.open(call.path, args["ro"] === true ? "r" : "r+");
    try {
      reports.push({ file: call.path, report: await checkImage(file, options) });
    } finally {
      await file.close();
    }
  }
  let status = 0;
  for (const { file, report } of reports) {
    if (args["silent"] !== true) printReport(call, file, report);
    status ||= report.result === "dirty" ? 37 : report.result === "damaged" ? 11 : 0;
  }
  return status;
}

function printReport(call: Call, file: string, { findings, skipped, result }: CheckReport): void {
  for (const { place, text: why, outcome } of findings) say(call, `${file}: ${place}: ${why} ${outcome}`);
  if (skipped) say(call, `${file}: Image is clean, check is skipped`);
  if (result === "dirty") call.streams.err(`${file}: Dirty flag is set\n`);
  if (result === "damaged") call.streams.err(`${file}: Errors were found, image is not repaired\n`);
}

async function snapshot(call: Call): Promise<undefined> {
  const [given, cbt] = [text(call, "uuid"), text(call, "cbt")];
  const guid = given === undefined ? undefined : guidOf(given);
  const bitmap = cbt === undefined ? undefined : uuidOf(cbt);
  const running = await daemonOf(call);
  const made =
    running === undefined
      ? await (await loadPloopDisk(call.path)).snapshot({ ...(guid && { guid }), ...(bitmap && { bitmap }) })
      : await askPloop(call.environment, call.path, "snapshot", { guid: guid ?? "", bitmap: bitmap ?? "" });
  return say(call, `ploop snapshot ${String(made)} has been successfully created`);
}

const COLUMNS: { readonly [name: string]: { title: string; width: number } } = {
  parent_uuid: { title: "PARENT_UUID", width: 38 },
  current: { title: "C", width: 1 },
  uuid: { title: "UUID", width: 38 },
  fname: { title: "FNAME", width: 32 },
};

async function snapshotList(call: Call): Promise<number | undefined> {
  const fields = (text(call, "output") ?? "parent_uuid,current,uuid,fname").split(",");
  const unknown = fields.find((field) => !Object.hasOwn(COLUMNS, field));
  if (unknown !== undefined) {
    call.streams.err(`Unknown field: ${unknown}\n`);
    return 38;
  }
  const { descriptor } = await loadPloopDisk(call.path);
  const only = text(call, "uuid");
  const top = descriptor.shots.find(({ guid }) => sameGuid(guid, descriptor.topGuid));
  const starred = call.args["snap"] === true ? top?.parent : top?.guid;
  const row = (values: Readonly<Record<string, string>>): string =>
    fields
      .map((field, i) => (i === fields.length - 1 ? values[field] : values[field]?.padEnd(COLUMNS[field]?.width ?? 0)))
      .join(" ");
  if (call.args["no_header"] !== true) {
    say(call, row(Object.fromEntries(Object.entries(COLUMNS).map(([name, { title }]) => [name, title]))));
  }
  for (const { guid, parent } of descriptor.shots) {
    if (call.args["snap"] === true && sameGuid(guid, descriptor.topGuid)) continue;
    if (only !== undefined && !sameGuid(guid, guidOf(only))) continue;
    const file = descriptor.images.find((image) => sameGuid(image.guid, guid))?.file ?? "";
    const current = sameGuid(guid, starred ?? "") ? "*" : "";
    say(call, row({ parent_uuid: parent, current, uuid: guid, fname: resolve(dirname(call.path), file) }));
  }
  return undefined;
}

/** Asks the daemon for something that takes its time, and shows how far it is. */
async function askLong(call: Call, op: string, args: Readonly<Record<string, unknown>>): Promise<unknown> {
  const poll = async (): Promise<void> => {
    const found = (await askPloop(call.environment, call.path, "progress")) as { done: number; total: number } | null;
    if (found !== null) call.progress(found.done, found.total);
  };
  const timer =
    call.streams.isTerminal === true ? setInterval(() => void poll().catch(() => undefined), POLL_MS) : undefined;
  try {
    return await askPloop(call.environment, call.path, op, args);
  } finally {
    clearInterval(timer);
  }
}

/** Deletes one snapshot, here or in the daemon. */
async function removeSnapshot(call: Call, guid: string, newFile?: string): Promise<string> {
  if (newFile !== undefined) await refuseRunning(call);
  const running = await daemonOf(call);
  if (running !== undefined) return String(await askLong(call, "snapshot-delete", { guid }));
  return (await loadPloopDisk(call.path)).deleteSnapshot(guid, { progress: call.progress, newFile });
}

async function snapshotDelete(call: Call): Promise<undefined> {
  const guid = guidOf(text(call, "uuid") as string);
  const done = await removeSnapshot(call, guid);
  if (done === "merged") return say(call, "ploop snapshot merged");
  if (done === "temporary")
    return say(
      call,
      `Unable to delete snapshot ${guid} as there are references to it; marking it as temporary instead`,
    );
  return say(call, `ploop snapshot ${guid} has been successfully deleted`);
}

function parentOf(disk: PloopDisk, guid: string): string | undefined {
  const chain = disk.chain(guid);
  return chain.at(-2)?.guid;
}

async function snapshotMerge(call: Call): Promise<number | undefined> {
  const [given, name] = [text(call, "uuid"), text(call, "new")];
  const newFile = name === undefined ? undefined : relative(dirname(call.path), resolve(name));
  if (newFile !== undefined && call.args["all"] === true) {
    call.streams.err("one of -A and -n\n");
    return PARAMETER_STATUS;
  }
  for (let merged = 0; ; merged++) {
    const disk = await loadPloopDisk(call.path);
    const parent = parentOf(disk, given === undefined ? disk.descriptor.topGuid : guidOf(given));
    if (parent === undefined) {
      if (merged > 0) return undefined;
      call.streams.err("there is nothing below to merge into\n");
      return 43;
    }
    await removeSnapshot(call, parent, newFile);
    say(call, "ploop snapshot merged");
    if (call.args["all"] !== true) return undefined;
  }
}

async function snapshotSwitch(call: Call): Promise<undefined> {
  await refuseRunning(call);
  const disk = await loadPloopDisk(call.path);
  await disk.switchTo(guidOf(text(call, "uuid") as string), { keep: call.args["keep"] === true });
  return say(call, "ploop snapshot has been successfully switched");
}

async function resizeDisk(call: Call): Promise<undefined> {
  const sectors = sectorsOf(text(call, "size") as string);
  if (call.args["shrink"] === true) {
    await refuseRunning(call);
    await (await loadPloopDisk(call.path)).shrink(sectors);
  } else if ((await daemonOf(call)) !== undefined) await askPloop(call.environment, call.path, "resize", { sectors });
  else await (await loadPloopDisk(call.path)).grow(sectors);
  return say(call, `${basename(call.path)}: ${sectors} sectors`);
}

async function convert(call: Call): Promise<number | undefined> {
  const [mode, version] = [text(call, "format"), text(call, "version")];
  if ((mode === undefined) === (version === undefined)) {
    call.streams.err("exactly one of -f and -v is needed\n");
    return PARAMETER_STATUS;
  }
  await refuseRunning(call);
  const disk = await loadPloopDisk(call.path);
  if (mode !== undefined) await disk.convert(mode as "raw" | "preallocated" | "expanded", call.progress);
  else await disk.convertVersion(version === "1" ? 1 : 2);
  return say(call, "ploop image has been successfully converted");
}

/** A disk that runs is reached through its daemon. */
async function reachable(call: Call, name: string): Promise<string> {
  if (!name.endsWith(".xml")) return name;
  return (await ploopStatus(call.environment, resolve(name)))?.uri ?? name;
}

async function copy(call: Call): Promise<undefined> {
  const names = [text(call, "source") as string, text(call, "destination") as string];
  const [from, to] = (await Promise.all(names.map((name) => reachable(call, name)))) as [string, string];
  const bytes = await copyDisk({ from, to, progress: call.progress });
  return say(call, `${bytes} bytes copied`);
}

async function stop(call: Call): Promise<undefined> {
  await askPloop(call.environment, call.path, "stop");
  return say(call, `ploop disk ${call.path} was stopped`);
}

async function status(call: Call): Promise<undefined> {
  const found = (await askPloop(call.environment, call.path, "status")) as PloopStatus;
  for (const [name, value] of Object.entries(found)) say(call, `${name}: ${String(value)}`);
}

async function message(call: Call, words: readonly string[]): Promise<undefined> {
  const answer = String(await askLong(call, "message", { words }));
  call.streams.out(answer === "" || answer.endsWith("\n") ? answer : `${answer}\n`);
}

async function bitmap(call: Call): Promise<number | undefined> {
  const [, action] = call.words;
  const [uuid, granularity] = [text(call, "uuid"), text(call, "granularity")];
  if (!BITMAP_ACTIONS.includes(action as BitmapAction) || (action !== "show" && uuid === undefined)) {
    call.streams.err(`one of ${BITMAP_ACTIONS.join(", ")} is needed, and but for show -u UUID\n`);
    return PARAMETER_STATUS;
  }
  const request: BitmapRequest = {
    action: action as BitmapAction,
    ...(uuid === undefined ? {} : { uuid: uuidOf(uuid) }),
    ...(granularity === undefined ? {} : { granularity: Number(granularity) }),
  };
  const reports =
    (await daemonOf(call)) === undefined
      ? await actOnBitmapsAtRest(await loadPloopDisk(call.path), request)
      : ((await askPloop(call.environment, call.path, "bitmap", { ...request })) as BitmapReport[]);
  for (const report of reports) {
    const { ranges } = report;
    const sectors = ranges.reduce((sum, range) => sum + range.sectors, 0);
    say(call, `${report.uuid}: ${sectors} sectors changed, one bit for ${report.granularity}`);
    if (action !== "show" && action !== "clear") continue;
    for (const range of ranges)
      say(call, `${String(range.startSector).padStart(14)} ${String(range.sectors).padStart(12)}`);
  }
  return undefined;
}

const COMMANDS: { readonly [name: string]: Command } = {
  init,
  info,
  check,
  snapshot,
  "snapshot-list": snapshotList,
  "snapshot-delete": snapshotDelete,
  "snapshot-switch": snapshotSwitch,
  "snapshot-merge": snapshotMerge,
  resize: resizeDisk,
  convert,
  copy,
  start: (call) => startDisk(call.path, call.args, call.environment, call.streams),
  stop,
  status,
  suspend: async (call) => void (await askPloop(call.environment, call.path, "suspend")),
  resume: async (call) => void (await askPloop(call.environment, call.path, "resume")),
  message: (call) => message(call, call.words.slice(1)),
  bitmap,
  tracking: (call) => message(call, [`tracking_${call.words[1]}`]),
};

/** Writes `NN%` over itself, when somebody looks. */
function progressOn(streams: Streams): (done: number, total: number) => void {
  let shown = -1;
  return (done, total) => {
    const percent = Math.floor((100 * done) / Math.max(1, total));
    if (streams.isTerminal !== true || percent === shown) return;
    shown = percent;
    streams.err(`\r${percent}%${percent === 100 ? "\n" : ""}`);
  };
}

/** Runs `vdo ploop WORDS`; resolves with the exit status. */
export async function runPloop(words: readonly string[], streams: Streams, environment: Environment): Promise<number> {
  try {
    const parsed = parsePloop(words, streams);
    const command = COMMANDS[parsed.name] as Command;
    const path = resolve(parsed.words[0] ?? ".");
    return (await command({ ...parsed, path, streams, environment, progress: progressOn(streams) })) ?? 0;
  } catch (error) {
    if (error instanceof ParseEnd) return error.status;
    streams.err(`vdo ploop: ${errorMessage(error)}\n`);
    return ploopStatusOf(error);
  }
}
