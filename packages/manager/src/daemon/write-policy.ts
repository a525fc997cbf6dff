/**
 * When a write is acknowledged. `sync`: when it is durable. `async`: when it is accepted; it is durable at the next flush.
 * `async-unsafe`: as `async`, since the engine has no faster and less safe way. `auto`: `sync` on storage that has no volatile
 * cache, where a durable write costs no more, else `async`.
 */
import { readFile } from "node:fs/promises";
import type { BlockDevice, WriteOptions } from "@vdo/block-device";
import type { Environment } from "../host/environment.ts";
import type { StorageLocation } from "../host/storage-location.ts";
import type { WritePolicy } from "../values.ts";

/** The policy that `policy` means on this storage. A regular file always has a cache, the system's, and so has an export, unless its server says otherwise. */
export async function effectivePolicy(
  policy: WritePolicy,
  { kind, path, hasCache }: StorageLocation & { hasCache?: boolean | undefined },
  { systemRoot }: Environment,
): Promise<"sync" | "async"> {
  if (policy !== "auto") return policy === "sync" ? "sync" : "async";
  if (hasCache === false) return "sync";
  if (kind !== "block") return "async";
  const file = `${systemRoot}/sys/class/block/${path.replace("/dev/", "")}/queue/write_cache`;
  const cache = await readFile(file, "utf8").catch(() => "write back");
  return cache.trim() === "write through" ? "sync" : "async";
}

/** A volume as its clients see it: every change is durable before it resolves, as long as `isSync` says so. */
export class PolicyDevice implements BlockDevice {
  readonly #volume: BlockDevice;
  /** May be changed while requests are under way; counts for those that come after. */
  isSync: boolean;
  readonly discard?: NonNullable<BlockDevice["discard"]>;
  readonly writeZeroes?: NonNullable<BlockDevice["writeZeroes"]>;
  readonly extents?: NonNullable<BlockDevice["extents"]>;

  constructor(volume: BlockDevice, isSync: boolean) {
    this.#volume = volume;
    this.isSync = isSync;
    if (volume.discard !== undefined) {
      this.discard = (start, count, options) =>
        (volume.discard as NonNullable<BlockDevice["discard"]>).call(volume, start, count, this.#durable(options));
    }
    if (volume.writeZeroes !== undefined) {
      this.writeZeroes = (start, count, options) =>
        (volume.writeZeroes as NonNullable<BlockDevice["writeZeroes"]>).call(
          volume,
          start,
          count,
          this.#durable(options),
        );
    }
    if (volume.extents !== undefined) {
      this.extents = (start, count) =>
        (volume.extents as NonNullable<BlockDevice["extents"]>).call(volume, start, count);
    }
  }

  get blockSize(): number {
    return this.#volume.blockSize;
  }

  get blockCount(): number {
    return this.#volume.blockCount;
  }

  get readOnly(): boolean {
    return this.#volume.readOnly === true;
  }

  #durable<T extends WriteOptions>(options: T | undefined): T | undefined {
    if (!this.isSync || options?.fua === true) return options;
    return options === undefined ? (DURABLE as T) : { ...options, fua: true };
  }

  read(start: number, target: Uint8Array): Promise<void> {
    return this.#volume.read(start, target);
  }

  write(start: number, source: Uint8Array, options?: WriteOptions): Promise<void> {
    return this.#volume.write(start, source, this.#durable(options));
  }

  flush(): Promise<void> {
    return this.#volume.flush();
  }

  /** The volume stays its owner's to close. */
  async close(): Promise<void> {}
}

const DURABLE: WriteOptions = { fua: true };
