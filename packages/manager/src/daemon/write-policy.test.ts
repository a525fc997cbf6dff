import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type BlockDevice, MemoryDevice, type WriteOptions } from "@vdo/block-device";
import { expect, test } from "vitest";
import { TestMachine } from "../testing/machine.ts";
import { effectivePolicy, PolicyDevice } from "./write-policy.ts";

/** Notes whether each change was to be durable. */
function recorder(): { device: BlockDevice; durable: boolean[] } {
  const durable: boolean[] = [];
  const memory = new MemoryDevice({ blockCount: 8 });
  const note = (options: WriteOptions | undefined): void => void durable.push(options?.fua === true);
  const device: BlockDevice = {
    blockSize: memory.blockSize,
    blockCount: memory.blockCount,
    read: (start, target) => memory.read(start, target),
    flush: () => memory.flush(),
    close: () => memory.close(),
    write: (start, source, options) => {
      note(options);
      return memory.write(start, source);
    },
    discard: async (_start, _count, options) => note(options),
    writeZeroes: async (_start, _count, options) => note(options),
  };
  return { device, durable };
}

test("under sync every change is durable when it is acknowledged; under async what the client asks for", async () => {
  const { device, durable } = recorder();
  const seen = new PolicyDevice(device, false);
  const block = new Uint8Array(4096).fill(7);
  const change = async (): Promise<void> => {
    await seen.write(1, block);
    await seen.write(1, block, { fua: true });
    await seen.discard?.(2, 1);
    await seen.writeZeroes?.(3, 1, { mayUnmap: true });
  };
  await change();
  seen.isSync = true;
  await change();
  expect(durable).toEqual([false, true, false, false, true, true, true, true]);
  const back = new Uint8Array(4096);
  await seen.read(1, back);
  expect(back[4095]).toBe(7);
  expect(seen.extents).toBeUndefined();
});

test("auto is sync only on a block device without a volatile cache", async () => {
  const machine = await TestMachine.make();
  const root = await mkdtemp(join(tmpdir(), "vdo-policy-"));
  try {
    for (const [disk, cache] of [
      ["sda", "write through\n"],
      ["sdb", "write back\n"],
    ] as const) {
      await mkdir(join(root, "sys/class/block", disk, "queue"), { recursive: true });
      await writeFile(join(root, "sys/class/block", disk, "queue/write_cache"), cache);
    }
    const environment = { ...machine.environment, systemRoot: root };
    const of = (policy: "auto" | "sync" | "async" | "async-unsafe", path: string, kind: "block" | "file" = "block") =>
      effectivePolicy(policy, { kind, path, identity: "" }, environment);
    expect(await of("auto", "/dev/sda")).toBe("sync");
    const exported = { kind: "nbd", path: "nbd://host:1/", identity: "" } as const;
    expect(await effectivePolicy("auto", exported, environment)).toBe("async");
    expect(await effectivePolicy("auto", { ...exported, hasCache: false }, environment)).toBe("sync");
    expect(await of("auto", "/dev/sdb")).toBe("async");
    expect(await of("auto", "/dev/sdc")).toBe("async");
    expect(await of("auto", "/srv/file", "file")).toBe("async");
    expect(await of("sync", "/dev/sdb")).toBe("sync");
    expect(await of("async-unsafe", "/dev/sda")).toBe("async");
  } finally {
    await rm(root, { recursive: true });
    await machine.remove();
  }
});
