/**
 * Messages to the running stack of a disk. The kernel's target knows no descriptor, its tools write it; here the descriptor
 * follows the message, so that the disk starts again as what it is.
 */
import { type MessageHost, sendMessage } from "../device/messages.ts";
import type { PloopDevice } from "../device/ploop-device.ts";
import { refused } from "../errors.ts";
import { type DescriptorImage, type DiskDescriptor, type Shot, sameGuid, TOP_GUID } from "../format/descriptor.ts";
import { geometryOf } from "../format/geometry.ts";
import type { DiskState } from "./disk-state.ts";
import { type Pair, withoutParent } from "./merge-child.ts";

const CHANGING: ReadonlySet<string> = new Set([
  "merge",
  "snapshot",
  "resize",
  "flip_upper_deltas",
  "notify_merged_backward",
  "notify_merged_forward",
]);

/** The descriptor is another one after this message. */
export function changesDescriptor([name = ""]: readonly string[]): boolean {
  return CHANGING.has(name);
}

/** Sends a message to `device`, the running stack of the disk; resolves with the answer. Throws as {@link sendMessage}. */
export async function sendToDisk(
  disk: DiskState,
  device: PloopDevice,
  words: readonly string[],
  host: MessageHost,
): Promise<string> {
  const [name] = words;
  if (name === "add_delta") throw refused(name, "EBUSY", "the disk is in use with the stack of its descriptor");
  if (name === "merge") return merge(disk, device, words, host);
  if (name === "snapshot") return snapshot(disk, device, words, host);
  if (name === "flip_upper_deltas") return flip(disk, device, words, host);
  if (name === "notify_merged_backward" || name === "notify_merged_forward") return notify(disk, device, words, host);
  const answer = await sendMessage(device, words, host);
  if (name === "resize") {
    const { sizeSectors } = device.engine.top.header;
    await disk.store({ ...disk.descriptor, ...geometryOf(sizeSectors), sizeSectors });
  }
  return answer;
}

/** The images of the stack; the disk must be what the device runs. */
function stackOf(disk: DiskState, device: PloopDevice, operation: string): DescriptorImage[] {
  const chain = disk.chain();
  if (chain.length === device.deltaCount) return chain;
  throw refused(operation, "EBUSY", "the device does not run the stack of the descriptor");
}

/** The snapshot at a level and its child, when it has one only. */
function pairAt(
  disk: DiskState,
  chain: readonly DescriptorImage[],
  level: number,
  operation: string,
): Pair | undefined {
  const [parentImage, childImage] = [chain[level], chain[level + 1]];
  if (parentImage === undefined || childImage === undefined) return undefined;
  const children = disk.children(parentImage.guid);
  if (children.length > 1) throw refused(operation, "EBUSY", `other snapshots are made of ${parentImage.guid}`);
  return { shot: disk.shot(parentImage.guid) as Shot, child: children[0] as Shot, parentImage, childImage };
}

async function merge(
  disk: DiskState,
  device: PloopDevice,
  words: readonly string[],
  host: MessageHost,
): Promise<string> {
  const chain = stackOf(disk, device, "merge");
  const pair = pairAt(disk, chain, chain.length - 2, "merge");
  if (pair === undefined) return sendMessage(device, words, host);
  const commitMerge = (): Promise<void> => disk.store(withoutParent(disk, pair, "child"));
  return sendMessage(device, words, { ...host, commitMerge });
}

/** Backward, the snapshot at the level survives in the file below it; forward, the one above it in its own. */
async function notify(
  disk: DiskState,
  device: PloopDevice,
  words: readonly string[],
  host: MessageHost,
): Promise<string> {
  const [name, text] = words as [string, string];
  const level = Number(text);
  const backward = name === "notify_merged_backward";
  const pair = pairAt(disk, stackOf(disk, device, name), backward ? level - 1 : level, name);
  const answer = await sendMessage(device, words, host);
  if (pair !== undefined) await disk.store(withoutParent(disk, pair, backward ? "parent" : "child"));
  return answer;
}

/** The last word is the new top's file: the old top becomes a snapshot with a new GUID. */
async function snapshot(
  disk: DiskState,
  device: PloopDevice,
  words: readonly string[],
  host: MessageHost,
): Promise<string> {
  stackOf(disk, device, "snapshot");
  const { topGuid, images, shots } = disk.descriptor;
  const guid = disk.newGuid();
  const renamed = (one: string): string => (sameGuid(one, topGuid) ? guid : one);
  const descriptor: DiskDescriptor = {
    ...disk.descriptor,
    topGuid: TOP_GUID,
    images: [
      ...images.map((image) => ({ ...image, guid: renamed(image.guid) })),
      { guid: TOP_GUID, file: words.at(-1) as string },
    ],
    shots: [
      ...shots.map((shot) => ({ ...shot, guid: renamed(shot.guid), parent: renamed(shot.parent) })),
      { guid: TOP_GUID, parent: guid },
    ],
  };
  await disk.storeAside(descriptor);
  const answer = await sendMessage(device, words, host);
  await disk.commit(descriptor);
  return answer;
}

/** Of the two upper files each takes the other's name; until they are merged, the snapshot below is on the way to go. */
async function flip(
  disk: DiskState,
  device: PloopDevice,
  words: readonly string[],
  host: MessageHost,
): Promise<string> {
  const chain = stackOf(disk, device, "flip_upper_deltas");
  const pair = pairAt(disk, chain, chain.length - 2, "flip_upper_deltas");
  const answer = await sendMessage(device, words, host);
  if (pair === undefined) return answer;
  const { parentImage, childImage } = pair;
  const files = new Map([
    [parentImage.guid, childImage.file],
    [childImage.guid, parentImage.file],
  ]);
  const images = disk.descriptor.images.map((image) => ({ ...image, file: files.get(image.guid) ?? image.file }));
  await disk.store({ ...disk.withState(parentImage.guid, "TemporaryZeroSwap"), images });
  return answer;
}
