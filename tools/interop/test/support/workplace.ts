/** A folder for the images of one test file. */
import { execFileSync } from "node:child_process";
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type BlockDevice, FileDevice } from "@vdo/block-device";
import { VdoVolume, type VolumeOptions } from "@vdo/kvdo";

export class Workplace {
  readonly #folder = mkdtempSync(join(tmpdir(), "vdo-kernel-test-"));

  /** The path of a file that the test will make itself. */
  path(name: string): string {
    return join(this.#folder, name);
  }

  /** A sparse image of `bytes`. */
  image(name: string, bytes: number): string {
    const path = join(this.#folder, name);
    const file = openSync(path, "w");
    ftruncateSync(file, bytes);
    closeSync(file);
    return path;
  }

  /** A copy of the image `source`, as sparse as it. */
  copy(name: string, source: string): string {
    const path = join(this.#folder, name);
    execFileSync("cp", ["--sparse=always", source, path]);
    return path;
  }

  /** An image of what is on `device`, which must tell its extents; as sparse as they are. */
  async imageOf(name: string, device: BlockDevice): Promise<string> {
    const path = this.image(name, device.blockCount * device.blockSize);
    const file = await FileDevice.open({ path });
    let start = 0;
    for (const { count, hole } of (await device.extents?.(0, device.blockCount)) ?? []) {
      for (let at = start; hole !== true && at < start + count; at += 256) {
        const bytes = new Uint8Array(Math.min(256, start + count - at) * device.blockSize);
        await device.read(at, bytes);
        await file.write(at, bytes);
      }
      start += count;
    }
    await file.close();
    return path;
  }

  /** An image that holds `data`. */
  dataImage(name: string, data: Uint8Array): string {
    const path = join(this.#folder, name);
    writeFileSync(path, data);
    return path;
  }

  /** Opens the volume on `path`, index online, runs `body`, and stops it cleanly. */
  async withVolume<T>(path: string, options: VolumeOptions, body: (volume: VdoVolume) => Promise<T>): Promise<T> {
    const device = await FileDevice.open({ path, readOnly: options.readOnly ?? false });
    try {
      const volume = await VdoVolume.open(device, options);
      try {
        await volume.indexSettled();
        return await body(volume);
      } finally {
        await volume.close();
      }
    } finally {
      await device.close();
    }
  }

  remove(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
