/**
 * What programs of others read out of our outputs, as facts about those programs: the labels, patterns and rules that they
 * use. Ansible's module runs itself, in ansible.interop.test.ts.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Random } from "@vdo/base";
import { NbdClient } from "@vdo/nbd";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { SUBCOMMANDS } from "../src/subcommands.ts";
import { CommandLine } from "./support/command-line.ts";

let commands: CommandLine;
beforeAll(async () => {
  commands = await CommandLine.make();
  const sizes = ["--vdoPhysicalSize=3G", "--vdoSlabSize=128M", "--vdoLogicalSize=8M", "--attach=none"];
  const created = await commands.vdo("create", "--name=v0", `--device=${join(commands.folder, "disk.img")}`, ...sizes);
  expect(created.status).toBe(0);
});
afterAll(() => commands.remove());

async function write(blocks: number, at: number): Promise<void> {
  const client = await NbdClient.connect((await commands.state("v0")).attach.path);
  await client.write(at, new Random(1).fill(new Uint8Array(blocks * 4096)));
  await client.close();
}

/**
 * The scripts monitor_check_vdostats_{physicalSpace,logicalSpace,savingPercent}.pl (vdo 8.3, examples/monitor): each label is
 * looked for as a pattern in every line of `vdostats NAME --verbose`; the value is what `.*: (.*)$` finds in the last line
 * that matches. Statuses: 0 fine, 1 warning, 2 critical, 3 unknown.
 */
const LABELS = [
  ...["operating mode", "data blocks used", "overhead blocks used", "physical blocks", "logical blocks"],
  ...["logical blocks used", "used percent", "saving percent", "1k-blocks available"],
];

async function monitored(name: string): Promise<Map<string, string>> {
  const { status, out } = await commands.vdostats(name, "--verbose");
  expect(status).toBe(0);
  const values = new Map<string, string>();
  for (const label of LABELS) {
    for (const line of out.split("\n")) {
      if (line.includes(label)) values.set(label, /.*: (.*)$/.exec(line)?.[1] ?? "");
    }
  }
  return values;
}

function physicalSpaceStatus(values: ReadonlyMap<string, string>): number {
  if (values.get("operating mode")?.includes("read-only") === true) return 2;
  if (values.get("operating mode")?.includes("recovering") === true) return 1;
  if (values.get("used percent")?.includes("N/A") === true) return 3;
  const used = Number(values.get("used percent"));
  return used >= 90 ? 2 : used >= 75 ? 1 : 0;
}

function savingPercentStatus(values: ReadonlyMap<string, string>): number {
  if (values.get("saving percent")?.includes("N/A") === true) return 0;
  const saving = Number(values.get("saving percent"));
  return saving <= 5 ? 2 : saving <= 50 ? 1 : 0;
}

const logicalPercent = (values: ReadonlyMap<string, string>): number =>
  (100 * Number(values.get("logical blocks used"))) / Number(values.get("logical blocks"));

describe("the monitoring scripts", () => {
  test("an empty volume is fine, though nothing is saved", async () => {
    const values = await monitored("v0");
    expect(values.get("operating mode")).toBe("normal");
    expect(values.get("saving percent")).toBe("N/A");
    expect(values.get("logical blocks")).toBe("2048");
    expect(values.get("physical blocks")).toBe("786432");
    expect(values.get("used percent")).toBe("91");
    expect(physicalSpaceStatus(values)).toBe(2);
    expect(savingPercentStatus(values)).toBe(0);
    expect(logicalPercent(values)).toBe(0);
  });

  test("the last line that holds a label is the one that is meant", async () => {
    await write(300, 0);
    await write(300, 1000);
    const values = await monitored("v0");
    expect(values.get("logical blocks used")).toBe("600");
    expect(values.get("logical blocks")).toBe("2048");
    expect(values.get("data blocks used")).toBe("300");
    expect(values.get("saving percent")).toBe("50");
    expect(savingPercentStatus(values)).toBe(1);
    expect(logicalPercent(values)).toBeCloseTo(29.3, 1);
    // The scripts look for it with a small k, which no version of vdostats prints.
    expect(values.has("1k-blocks available")).toBe(false);
  });

  test("a volume in read-only mode is critical", async () => {
    await commands.vdo("stop", "--name=v0");
    await commands.vdo("setReadOnly", "--name=v0");
    await commands.vdo("start", "--name=v0");
    const values = await monitored("v0");
    expect(values.get("operating mode")).toBe("read-only");
    expect(physicalSpaceStatus(values)).toBe(2);
  });
});

/** sos (sos/report/plugins/vdo.py) runs these, and takes each line of the first as a volume's name. */
test("sos gets names, their status, and a table", async () => {
  const names = (await commands.vdo("list", "--all")).out.split("\n").filter((line) => line !== "");
  expect(names).toEqual(["v0"]);
  for (const name of names) expect((await commands.vdo("status", "-n", name)).status).toBe(0);
  expect((await commands.vdostats("--human-readable")).out).toMatch(/^Device .*\nv0 /);
});

/** The legacy manager's completion for bash: options are the lines of help that begin with blanks and a dash. */
test.each(Object.keys(SUBCOMMANDS))("bash completion of others finds the options of %s in its help", async (name) => {
  const { out } = await commands.vdo(name, "--help");
  const found = out
    .split("\n")
    .filter((line) => /^\s+-/.test(line))
    .flatMap((line) => line.match(/(?<=[\s,])--?[A-Za-z][\w-]*/g) ?? []);
  const shown = SUBCOMMANDS[name]?.options.filter(({ help }) => help !== undefined) ?? [];
  expect(found).toEqual(expect.arrayContaining(shown.flatMap(({ flags }) => flags)));
});

/** The same completion: names are what stands before the colon in the lines of the configuration that hold `!VDOService`. */
test("bash completion of others finds the volumes in the configuration file", async () => {
  const text = await readFile(join(commands.folder, "etc/vdoconf.yml"), "utf8");
  const names = text
    .split("\n")
    .filter((line) => line.includes("!VDOService"))
    .map((line) => line.split(":")[0]?.trim());
  expect(names).toEqual(["v0"]);
});

/** What Ansible and old libblockdev take from `vdo status`: YAML 1.1, one mapping, volumes by name. */
test("status is one YAML document with every key of the legacy manager", async () => {
  const { out } = await commands.vdo("status");
  const status = parse(out, { version: "1.1" }) as Record<string, Record<string, Record<string, unknown>>>;
  expect(Object.keys(status)).toEqual(["VDO status", "Kernel module", "Configuration", "VDOs"]);
  const legacy = [
    ...["Acknowledgement threads", "Activate", "Bio rotation interval", "Bio submission threads"],
    ...["Block map cache size", "Block map period", "Block size", "CPU-work threads", "Compression"],
    ...["Configured write policy", "Deduplication", "Device mapper status", "Emulate 512 byte", "Hash zone threads"],
    ...["Index checkpoint frequency", "Index memory setting", "Index parallel factor", "Index sparse", "Index status"],
    ...["Logical size", "Logical threads", "Max discard size", "Physical size", "Physical threads", "Slab size"],
    ...["Storage device", "UUID", "VDO statistics"],
  ];
  const volume = status["VDOs"]?.["v0"] ?? {};
  expect(Object.keys(volume)).toEqual(expect.arrayContaining(legacy));
  expect(Object.keys(volume)).toEqual([...Object.keys(volume)].sort());
  const statistics = (volume["VDO statistics"] as Record<string, Record<string, unknown>>)["/dev/mapper/v0"] ?? {};
  expect(statistics["physical blocks"]).toBe(786432);
  expect(statistics["512 byte emulation"]).toBe(false);
  expect(Object.keys(statistics)).toHaveLength(165);
  expect(Object.keys(statistics)).toEqual([...Object.keys(statistics)].sort());
});
