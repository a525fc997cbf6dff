/** What a running volume tells those who watch it: warnings when it fills up, the command of --onFull, and its metrics. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { NbdClient } from "@vdo/nbd";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CommandLine } from "./support/command-line.ts";

let commands: CommandLine;
beforeAll(async () => {
  commands = await CommandLine.make();
});
afterAll(() => commands.remove());

/** The file's text, as soon as it is there. */
async function arrived(path: string): Promise<string> {
  for (;;) {
    const text = await readFile(path, "utf8").catch(() => "");
    if (text.endsWith("\n")) return text;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

test("a nearly full volume warns in its log and its statistics, and runs the command with its name and the percentage", async () => {
  const said = join(commands.folder, "said");
  const hook = `f() { echo "$1 is at $2" > ${said}; }; f`;
  // The index takes most of so small a volume: it is nearly full from the start.
  const words = [`--device=${commands.folder}/disk.img`, "--vdoPhysicalSize=3G", "--vdoSlabSize=128M", "--attach=none"];
  expect(await commands.vdo("create", "--name=v0", ...words, `--onFull=${hook}`)).toMatchObject({ status: 0, err: "" });
  expect(await arrived(said)).toBe("v0 is at 91.73\n");
  const log = await readFile(join(commands.folder, "log/v0.log"), "utf8");
  expect(log).toContain("v0: WARNING - VDO v0 is now 91.73% full.\n");
  const [entry] = JSON.parse((await commands.vdostats("--json")).out) as { stats: Record<string, unknown> }[];
  expect(entry?.stats["warning"]).toBe("VDO v0 is now 91.73% full.");
});

test("metrics tell what clients did", async () => {
  const client = await NbdClient.connect((await commands.state("v0")).attach.path);
  await client.write(0, new Uint8Array(65_536).fill(1));
  await client.flush();
  await client.read(0, new Uint8Array(4096));
  await client.close();
  const { status, out } = await commands.vdostats("--prometheus");
  expect(status).toBe(0);
  const value = (metric: string) => Number(new RegExp(`^${metric} (\\S+)$`, "m").exec(out)?.[1]);
  expect(value('vdo_client_bytes_total{volume="v0",operation="write"}')).toBe(65_536);
  expect(value('vdo_client_requests_total{volume="v0",operation="read"}')).toBe(1);
  expect(value('vdo_client_requests_total{volume="v0",operation="flush"}')).toBe(1);
  expect(value('vdo_client_seconds_total{volume="v0",operation="write"}')).toBeGreaterThan(0);
  expect(value('vdo_logical_blocks_used{volume="v0"}')).toBe(16);
  expect(value('vdo_saving_ratio{volume="v0"}')).toBeGreaterThan(0.8);
});
