/** The offline tools under their own names. Their output beside the original's is compared in metadata-tools.kernel.test.ts. */
import { symlink, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { STANDALONE_TOOLS } from "../src/standalone/tools.ts";
import { CommandLine, runProgram } from "./support/command-line.ts";

let commands: CommandLine;
let disk: string;
beforeAll(async () => {
  commands = await CommandLine.make();
  disk = join(commands.folder, "disk.img");
  await writeFile(disk, "");
  await truncate(disk, 3 * 2 ** 30);
});
afterAll(() => commands.remove());

test.each(Object.entries(STANDALONE_TOOLS))("%s has help, a version and a usage line", async (name, tool) => {
  const help = await commands.tool(name, "--help");
  expect(help).toMatchObject({ status: 0, err: "" });
  for (const { long } of tool.options) expect(help.out).toContain(`--${long}`);
  expect(await commands.tool(name, "--vers", "--bogus")).toEqual({
    status: 0,
    out: `${name} version is: 0.0.0\n`,
    err: "",
  });
  const bogus = await commands.tool(name, disk, "--bogus");
  const usage = tool.isUsagePrefixed ? `${name}: Usage: ${tool.usage}\n\n` : `Usage: ${tool.usage}\n`;
  expect(bogus).toEqual({ status: 1, out: "", err: `${name}: unrecognized option '--bogus'\n${usage}` });
  expect(await commands.tool(name)).toEqual({ status: 1, out: "", err: usage });
  const missing = await commands.tool(name, ...Array.from({ length: tool.operands }, () => "/no/such/file"));
  expect(missing.status).not.toBe(0);
  expect(missing.err).toMatch(new RegExp(`^${name}: `));
});

test("LVM formats through a link to the program, and reads the logical size", async () => {
  const words = ["--logical-size=0K", "--slab-bits=15", "--uds-memory-size=0.50", "--uds-checkpoint-frequency=0"];
  const { status, out } = await commands.tool("vdoformat", ...words, "--force", disk);
  expect(status).toBe(187);
  const small = await commands.tool("vdoformat", ...words.slice(0, 2), "--uds-memory-size=0.25", disk);
  expect(small).toMatchObject({ status: 0, err: "" });
  expect(small.out).toMatch(/^Logical blocks defaulted to \d+ blocks\.$/m);
  expect(out).toBe("");
});

test("a link gives the program its name", async () => {
  const link = join(commands.folder, "vdolistmetadata");
  await symlink(fileURLToPath(new URL("../src/main.ts", import.meta.url)), link);
  const tsx = import.meta.resolve("tsx");
  const called = await runProgram(process.execPath, ["--conditions=@vdo/source", "--import", tsx, link, disk]);
  expect(called).toMatchObject({ status: 0, err: "" });
  expect(called.out).toMatch(/^0 \.\. 0: geometry block\n1 \.\. 679127: index\n/);
});

test("setting the UUID, and reading it back; a volume that was never used has no pages to be found by", async () => {
  const id = "1c5d5e9a-7e0e-4d4e-8d0b-6a3f1c7d9a10";
  expect(await commands.tool("vdosetuuid", "--uuid", id.toUpperCase(), disk)).toEqual({ status: 0, out: "", err: "" });
  expect((await commands.tool("vdodumpconfig", disk)).out).toContain(`UUID: ${id}\n`);
  expect((await commands.tool("vdosetuuid", "--uuid=x", disk)).status).toBe(1);
  expect((await commands.tool("vdoregenerategeometry", "--offset=7", disk)).err).toContain("multiple of 4096\n");
  const none = { status: 1, out: "", err: `No valid super block was found on ${disk}\n` };
  expect(await commands.tool("vdoregenerategeometry", "--offset=2781708288", disk)).toEqual(none);
  expect((await commands.tool("vdoaudit", disk)).err).toContain("newly formatted");
});
