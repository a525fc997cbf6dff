/** A folder in memory whose power can be cut before any operation of it or of its files. */

import { VdoError } from "@vdo/base";
import { MemoryDevice } from "@vdo/block-device";
import { DeviceFile } from "../../src/file/device-file.ts";
import type { ImageDirectory, ImageFile } from "../../src/file/image-file.ts";

const CAPACITY = 8 << 20;

export class MemoryDirectory implements ImageDirectory {
  readonly files = new Map<string, MemoryDevice>();
  readonly texts = new Map<string, string>();
  /** Changes so far, and the one before which the power is cut. */
  changes = 0;
  cutAt = Number.POSITIVE_INFINITY;

  change(): void {
    if (this.changes >= this.cutAt) throw new VdoError("VDO_IO", "the power is off", { operation: "write", block: 0 });
    this.changes++;
  }

  powerOn(): void {
    this.cutAt = Number.POSITIVE_INFINITY;
  }

  /** An independent copy. */
  async clone(): Promise<MemoryDirectory> {
    const copy = new MemoryDirectory();
    for (const [name, text] of this.texts) copy.texts.set(name, text);
    for (const [name, device] of this.files) {
      const bytes = new Uint8Array(device.blockCount * 512);
      await device.read(0, bytes);
      copy.files.set(name, held(MemoryDevice.from(bytes, 512)));
    }
    return copy;
  }

  async open(name: string, { readOnly }: { readOnly: boolean }): Promise<ImageFile> {
    const device = this.files.get(name);
    if (device === undefined) throw new VdoError("VDO_IO", `no file ${name}`, { operation: "open", block: 0 });
    return this.#watched(await DeviceFile.open(name, device, { readOnly }));
  }

  async create(name: string): Promise<ImageFile> {
    this.change();
    if (this.files.has(name)) throw new VdoError("VDO_IO", `${name} exists`, { operation: "open", block: 0 });
    this.files.set(name, held(new MemoryDevice({ blockCount: CAPACITY / 512, blockSize: 512 })));
    return this.open(name, { readOnly: false });
  }

  #watched(file: DeviceFile): ImageFile {
    const watch =
      <A extends unknown[]>(act: (...args: A) => Promise<void>) =>
      async (...args: A): Promise<void> => {
        this.change();
        return act(...args);
      };
    return {
      name: file.name,
      readOnly: file.readOnly,
      get length() {
        return file.length;
      },
      read: (offset, target) => file.read(offset, target),
      write: watch((offset: number, source: Uint8Array) => file.write(offset, source)),
      zero: watch((offset: number, length: number) => file.zero(offset, length)),
      setLength: watch((length: number) => file.setLength(length)),
      flush: () => file.flush(),
      refresh: () => file.refresh(),
      close: () => file.close(),
    };
  }

  async exists(name: string): Promise<boolean> {
    return this.texts.has(name) || this.files.has(name);
  }

  async readText(name: string): Promise<string> {
    const text = this.texts.get(name);
    if (text === undefined) throw new VdoError("VDO_IO", `no file ${name}`, { operation: "open", block: 0 });
    return text;
  }

  async writeText(name: string, text: string): Promise<void> {
    this.change();
    this.texts.set(name, text);
  }

  async rename(from: string, to: string): Promise<void> {
    this.change();
    const text = this.texts.get(from);
    if (text !== undefined) {
      this.texts.set(to, text);
      this.texts.delete(from);
      return;
    }
    this.files.set(to, this.files.get(from) as MemoryDevice);
    this.files.delete(from);
  }

  async unlink(name: string): Promise<void> {
    this.change();
    if (!this.files.delete(name)) this.texts.delete(name);
  }
}

/** Like a file, the content outlives what has it open. */
function held(device: MemoryDevice): MemoryDevice {
  device.close = async () => undefined;
  return device;
}
