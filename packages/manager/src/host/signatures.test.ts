import { readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { MemoryDevice } from "@vdo/block-device";
import { describe, expect, test } from "vitest";
import type { Programs } from "./programs.ts";
import { describeSignature, findSignatures } from "./signatures.ts";

const none: Programs = {
  find: () => undefined,
  run: async () => ({ status: -1, stdout: "", stderr: "" }),
  background: () => ({ pid: 1, ended: Promise.resolve(0) }),
};

const find = (device: MemoryDevice, path: string, programs: Programs) =>
  findSignatures({ device, path, programs, temporaryFolder: tmpdir() });

async function device(...parts: [offset: number, bytes: string | number[]][]): Promise<MemoryDevice> {
  const memory = new MemoryDevice({ blockCount: 64 });
  const content = new Uint8Array(64 * 4096);
  for (const [offset, bytes] of parts) {
    content.set(typeof bytes === "string" ? Buffer.from(bytes, "latin1") : bytes, offset);
  }
  await memory.write(0, content);
  return memory;
}

const types = async (...parts: [offset: number, bytes: string | number[]][]): Promise<string[]> =>
  (await find(await device(...parts), "/dev/x", none)).map(({ type }) => type);

describe("signatures", () => {
  test("an empty device has none, and a tiny one can be looked at", async () => {
    expect(await types()).toEqual([]);
    expect(await find(new MemoryDevice({ blockCount: 1 }), "/dev/x", none)).toEqual([]);
  });

  test("file systems, other volumes and partition tables are recognised", async () => {
    expect(await types([0, "dmvdo001"])).toEqual(["vdo"]);
    expect(await types([0, "XFSB"])).toEqual(["xfs"]);
    expect(await types([512, "EFI PART"])).toEqual(["gpt"]);
  });

  test("the description is the formatter's", async () => {
    const uuid = Array.from({ length: 16 }, (_unused, i) => i * 17);
    const label = [...Buffer.from("home")];
    const [found] = await find(
      await device([1080, [0x53, 0xef]], [1120, [0x40]], [1128, uuid], [1144, label]),
      "/dev/sdb",
      none,
    );
    expect(describeSignature("/dev/sdb", found!)).toBe(
      'Found existing signature on /dev/sdb at offset 1080: LABEL="home" UUID="00112233-4455-6677-8899-aabbccddeeff" TYPE="ext4" USAGE="filesystem".',
    );
  });

  test("what wipefs sees further on is added", async () => {
    const wipefs: Programs = {
      ...none,
      find: (name) => (name === "wipefs" ? "/usr/sbin/wipefs" : undefined),
      run: async () => ({
        status: 0,
        stdout: '{"signatures":[{"offset":"0x3fe00","type":"gpt"},{"offset":"0x0","type":"xfs"}]}',
        stderr: "",
      }),
    };
    const found = await find(await device([0, "XFSB"]), "/dev/x", wipefs);
    expect(found.map(({ offset, type, usage }) => [offset, type, usage])).toEqual([
      [0, "xfs", "filesystem"],
      [0x3fe00, "gpt", "other"],
    ]);
  });

  test("of an NBD export, wipefs is shown a copy of both ends", async () => {
    let size = 0;
    let ends = "";
    const wipefs: Programs = {
      ...none,
      find: () => "/usr/sbin/wipefs",
      run: async (_program, args) => {
        const copy = readFileSync(args.at(-1) as string, "latin1");
        size = copy.length;
        ends = copy.slice(5000, 5005) + copy.slice(size - 5);
        return { status: 0, stdout: '{"signatures":[{"offset":"0x3fff0","type":"linux_raid_member"}]}', stderr: "" };
      },
    };
    const memory = await device([5000, "begin"], [64 * 4096 - 5, "close"]);
    const found = await find(memory, "nbd://127.0.0.1:10809/x", wipefs);
    expect(found.map(({ type }) => type)).toEqual(["linux_raid_member"]);
    expect([size, ends]).toEqual([64 * 4096, "beginclose"]);
  });
});
