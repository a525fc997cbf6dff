/** A folder of the host. */
import { access, open, readFile, rename, unlink } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import type { ImageDirectory, ImageFile } from "./image-file.ts";
import { failure, NodeFile, type NodeFileOptions } from "./node-file.ts";

export class NodeDirectory implements ImageDirectory {
  readonly path: string;
  readonly #options: NodeFileOptions;

  /** With the options of each of its files. */
  constructor(path: string, options: NodeFileOptions = {}) {
    this.path = resolve(path);
    this.#options = options;
  }

  open(name: string, { readOnly }: { readOnly: boolean }): Promise<ImageFile> {
    return NodeFile.open(resolve(this.path, name), readOnly ? "r" : "r+", this.#options);
  }

  create(name: string): Promise<ImageFile> {
    return NodeFile.open(resolve(this.path, name), "wx+", this.#options);
  }

  async exists(name: string): Promise<boolean> {
    return access(resolve(this.path, name)).then(
      () => true,
      () => false,
    );
  }

  async readText(name: string): Promise<string> {
    const path = resolve(this.path, name);
    return readFile(path, "utf8").catch((error: unknown) => {
      throw failure(path, "open", 0, error);
    });
  }

  async writeText(name: string, text: string): Promise<void> {
    const path = resolve(this.path, name);
    try {
      const handle = await open(path, "w", 0o644);
      try {
        await handle.writeFile(text);
        await handle.sync();
      } finally {
        await handle.close();
      }
    } catch (error) {
      throw failure(path, "write", 0, error);
    }
  }

  async rename(from: string, to: string): Promise<void> {
    const target = resolve(this.path, to);
    try {
      await rename(resolve(this.path, from), target);
      await syncFolder(dirname(target));
    } catch (error) {
      throw failure(target, "write", 0, error);
    }
  }

  async unlink(name: string): Promise<void> {
    const path = resolve(this.path, name);
    await unlink(path).catch((error: unknown) => {
      throw failure(path, "write", 0, error);
    });
  }
}

async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
