/**
 * DiskDescriptor.xml: which files make up a disk, and the tree of its snapshots.
 *
 * Each shot names its parent and has an image of the same GUID; the chain from the top GUID to the null GUID is the stack,
 * newest first. Every problem of the text is `VDO_CORRUPT` with the element's name. Source of fact: ploop 1.15 and 9.0.30.
 */
import { normalize } from "node:path";
import { XMLBuilder, XMLParser, XMLValidator } from "fast-xml-parser";
import { corrupt } from "../errors.ts";
import { isClusterSize } from "./header.ts";

export const DESCRIPTOR_NAME = "DiskDescriptor.xml";
/** GUID of the delta that takes the writes. */
export const TOP_GUID = "{5fbaabe3-6958-40ff-92a7-860e329aab41}";
/** Parent of the base. */
export const NO_GUID = "{00000000-0000-0000-0000-000000000000}";

/** States of a shot during operations that take several steps. */
export const SHOT_STATES = ["Temporary", "TemporaryZero", "TemporaryZeroSwap"] as const;
export type ShotState = (typeof SHOT_STATES)[number];

export interface DescriptorImage {
  guid: string;
  /** Relative to the descriptor's folder, or absolute. */
  file: string;
}

export interface Shot {
  guid: string;
  parent: string;
  state?: ShotState;
}

export interface DiskDescriptor {
  sizeSectors: number;
  cylinders: number;
  heads: number;
  clusterSectors: number;
  /** Raw: the base is a plain image. */
  mode: "expanded" | "preallocated" | "raw";
  images: DescriptorImage[];
  shots: Shot[];
  topGuid: string;
}

const GUID = /^\{[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\}$/i;
const LISTS = ["Image", "Shot", "Storage"];

export function isGuid(text: string): boolean {
  return GUID.test(text);
}

export function sameGuid(a: string, b: string): boolean {
  return a.toLowerCase() === b.toLowerCase();
}

type Node = { [name: string]: unknown };

class Reader {
  readonly #place: string;

  constructor(place: string) {
    this.#place = place;
  }

  fail(element: string, expected: string, actual: unknown): never {
    throw corrupt(this.#place, element, expected, actual === undefined ? "missing" : JSON.stringify(actual));
  }

  node(parent: Node, name: string): Node {
    const value = parent[name];
    if (typeof value === "string" && value === "") return {};
    if (typeof value !== "object" || value === null || Array.isArray(value)) this.fail(name, "one element", value);
    return value as Node;
  }

  nodes(parent: Node, name: string): Node[] {
    const value = parent[name];
    if (value === undefined) return [];
    return (value as unknown[]).map((one) => {
      if (typeof one !== "object" || one === null) this.fail(name, "an element with content", one);
      return one as Node;
    });
  }

  text(parent: Node, name: string): string {
    const value = parent[name];
    if (typeof value !== "string" || value === "") this.fail(name, "text", value);
    return value;
  }

  guid(parent: Node, name: string): string {
    const text = this.text(parent, name);
    if (!isGuid(text)) this.fail(name, "a GUID in braces", text);
    return text;
  }

  /** Decimal, 0x… or 0…; `fallback` for what is missing or is no number. */
  number(parent: Node, name: string, fallback: number): number {
    const text = parent[name];
    if (typeof text !== "string") return fallback;
    const value = /^0[0-7]+$/.test(text)
      ? Number.parseInt(text, 8)
      : /^(0x[\da-f]+|\d+)$/i.test(text)
        ? Number(text)
        : -1;
    return Number.isSafeInteger(value) && value >= 0 ? value : fallback;
  }
}

/** Reads the text of a descriptor; `place` names it in errors. Throws `VDO_CORRUPT`. */
export function parseDescriptor(text: string, place: string): DiskDescriptor {
  const read = new Reader(place);
  const valid = XMLValidator.validate(text);
  if (valid !== true) read.fail(`XML, line ${valid.err.line}`, "well-formed text", valid.err.msg);
  const parser = new XMLParser({ parseTagValue: false, trimValues: true, isArray: (name) => LISTS.includes(name) });
  const document = parser.parse(text) as Node;
  const root = Object.entries(document).find(([name]) => !name.startsWith("?"))?.[1];
  if (typeof root !== "object" || root === null) read.fail("root", "an element with content", root);
  const parameters = read.node(root as Node, "Disk_Parameters");
  const storages = read.nodes(read.node(root as Node, "StorageData"), "Storage");
  if (storages.length !== 1) read.fail("Storage", "one element: split disks are not supported", storages.length);
  const storage = storages[0] as Node;
  const clusterSectors = read.number(storage, "Blocksize", -1);
  if (!isClusterSize(clusterSectors)) {
    read.fail("Blocksize", "a power of two from 64 to 131072", storage["Blocksize"]);
  }
  const images = read.nodes(storage, "Image");
  if (images.length === 0) read.fail("Image", "at least one element", undefined);
  const snapshots = read.node(root as Node, "Snapshots");
  const descriptor: DiskDescriptor = {
    sizeSectors: read.number(parameters, "Disk_size", 0),
    cylinders: read.number(parameters, "Cylinders", 0),
    heads: read.number(parameters, "Heads", 0),
    clusterSectors,
    mode: modeOf(read, storage, images),
    images: images.map((image) => ({ guid: read.guid(image, "GUID"), file: fileOf(read, image) })),
    shots: read.nodes(snapshots, "Shot").map((shot) => shotOf(read, shot)),
    topGuid: "TopGUID" in snapshots ? read.guid(snapshots, "TopGUID") : TOP_GUID,
  };
  // Old descriptors of a single image have no shots.
  if (descriptor.images.length === descriptor.shots.length + 1) {
    descriptor.shots.push({ guid: descriptor.topGuid, parent: NO_GUID });
  }
  checkDescriptor(descriptor, place);
  return descriptor;
}

function modeOf(read: Reader, storage: Node, images: readonly Node[]): DiskDescriptor["mode"] {
  const types = images.map((image) => read.text(image, "Type"));
  const wrong = types.find((type) => type !== "Compressed" && type !== "Plain");
  if (wrong !== undefined) read.fail("Type", "Compressed or Plain", wrong);
  const raw = types.includes("Plain");
  const preallocated = storage["Preallocated"];
  if (preallocated !== undefined && preallocated !== "0" && preallocated !== "1") {
    read.fail("Preallocated", "0 or 1", preallocated);
  }
  if (preallocated === "1" && raw) read.fail("Preallocated", "0 with Type Plain", preallocated);
  return raw ? "raw" : preallocated === "1" ? "preallocated" : "expanded";
}

function fileOf(read: Reader, image: Node): string {
  const file = read.text(image, "File").replace(/\/{2,}/g, "/");
  if (file.includes("\0") || file.endsWith("/")) read.fail("File", "the path of a file", file);
  return file;
}

function shotOf(read: Reader, shot: Node): Shot {
  const states = SHOT_STATES.filter((state) => state in shot);
  if (states.length > 1) read.fail("Shot", "at most one state", states.join(", "));
  const base = { guid: read.guid(shot, "GUID"), parent: read.guid(shot, "ParentGUID") };
  return states[0] === undefined ? base : { ...base, state: states[0] };
}

/** What holds for every descriptor: one image per shot, no GUID twice, a top that is there, chains that end. */
export function checkDescriptor(descriptor: DiskDescriptor, place: string): void {
  const { images, shots, topGuid } = descriptor;
  const fail = (element: string, expected: string, actual: unknown): never => {
    throw corrupt(place, element, expected, actual);
  };
  for (const [name, list] of Object.entries({ Image: images, Shot: shots })) {
    const seen = new Set<string>();
    for (const { guid } of list) {
      if (seen.has(guid.toLowerCase())) fail(`${name} GUID`, "each GUID once", guid);
      seen.add(guid.toLowerCase());
    }
  }
  const files = new Set(images.map(({ file }) => normalize(file)));
  if (files.size !== images.length)
    fail("File", "a file of its own for each image", images.map(({ file }) => file).join(", "));
  if (images.length !== shots.length) fail("Shot", `${images.length}, one for each image`, shots.length);
  for (const { guid, parent } of shots) {
    if (!images.some((image) => sameGuid(image.guid, guid))) fail("Shot GUID", "the GUID of an image", guid);
    if (!sameGuid(parent, NO_GUID) && !shots.some((shot) => sameGuid(shot.guid, parent))) {
      fail("ParentGUID", "the GUID of a shot", parent);
    }
  }
  const top = shots.find((shot) => sameGuid(shot.guid, topGuid));
  if (top === undefined) fail("TopGUID", "the GUID of a shot", topGuid);
  if (top?.state !== undefined) fail("TopGUID", "a shot that is not temporary", `${topGuid}, which is ${top.state}`);
  for (const { guid } of shots) chainOf(descriptor, guid, place);
}

/** The images from the base to `guid`. Throws `VDO_CORRUPT` when the parents form a circle, `VDO_CORRUPT` for no such shot. */
export function chainOf(descriptor: DiskDescriptor, guid: string, place: string): DescriptorImage[] {
  const chain: DescriptorImage[] = [];
  for (let at = guid; !sameGuid(at, NO_GUID); ) {
    const shot = descriptor.shots.find((one) => sameGuid(one.guid, at));
    const image = descriptor.images.find((one) => sameGuid(one.guid, at));
    if (shot === undefined || image === undefined) throw corrupt(place, "Shot GUID", "a shot with an image", at);
    if (chain.length >= descriptor.shots.length)
      throw corrupt(place, "ParentGUID", "a chain that ends", `a circle at ${at}`);
    chain.unshift(image);
    at = shot.parent;
  }
  return chain;
}

/** The text of a descriptor, as the original tools write it. */
export function formatDescriptor(descriptor: DiskDescriptor): string {
  const { sizeSectors, cylinders, heads, clusterSectors, mode, images, shots, topGuid } = descriptor;
  const tracks = cylinders * heads;
  const builder = new XMLBuilder({ format: true, indentBy: "  ", suppressEmptyNode: true });
  const body = builder.build({
    Virtuozzo_disk_image: {
      Disk_Parameters: {
        Disk_size: sizeSectors,
        Cylinders: cylinders,
        Heads: heads,
        Sectors: tracks === 0 ? 0 : Math.floor(sizeSectors / tracks),
        Padding: 0,
      },
      StorageData: {
        Storage: {
          Start: 0,
          End: sizeSectors,
          Blocksize: clusterSectors,
          ...(mode === "preallocated" ? { Preallocated: 1 } : {}),
          Image: images.map(({ guid, file }) => ({
            GUID: guid,
            Type: mode === "raw" ? "Plain" : "Compressed",
            File: file,
          })),
        },
      },
      Snapshots: {
        TopGUID: topGuid,
        Shot: shots.map(({ guid, parent, state }) => ({
          GUID: guid,
          ParentGUID: parent,
          ...(state === undefined ? {} : { [state]: "" }),
        })),
      },
    },
  });
  return `<?xml version="1.0"?>\n${body.trimEnd()}\n`;
}
