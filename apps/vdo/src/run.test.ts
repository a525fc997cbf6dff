import { mkdir, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { TestMachine } from "@vdo/manager/testing";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { runVdo } from "./run.ts";
import { SUBCOMMANDS } from "./subcommands.ts";

interface Outcome {
  status: number;
  out: string;
  err: string;
}

let machine: TestMachine;
beforeEach(async () => {
  process.env["COLUMNS"] = "80";
  machine = await TestMachine.make();
});
afterEach(() => machine.remove());

async function vdo(...words: string[]): Promise<Outcome> {
  let out = "";
  let err = "";
  const streams = {
    out: (text: string) => {
      out += text;
    },
    err: (text: string) => {
      err += text;
    },
  };
  const status = await runVdo({ words, streams, environment: machine.environment });
  return { status, out, err };
}

const lastLine = ({ err }: Outcome): string => err.trimEnd().split("\n").at(-1) ?? "";

async function disk(name = "disk"): Promise<string> {
  const path = join(machine.folder, name);
  await writeFile(path, "");
  await truncate(path, 4 * 1024 ** 2);
  return path;
}

/** Words that make each subcommand complete. */
const COMPLETE: Readonly<Record<string, string[]>> = {
  changeWritePolicy: ["--name=v0", "--writePolicy=sync"],
  convert: ["--name=v0", "--force"],
  calculateSize: ["--physical-size=10G", "--logical-size=10G"],
  copy: ["--name=v0", "--device=/nowhere/disk", "--from=/nowhere/source"],
  create: ["--name=v0", "--device=/nowhere/disk"],
  debugMetadata: ["/nowhere/dump"],
  dumpMetadata: ["--name=v0", "/nowhere/dump"],
  estimate: ["/nowhere/file"],
  export: ["--name=v0", "--output=/nowhere/image"],
  growLogical: ["--name=v0", "--vdoLogicalSize=1T"],
  import: ["--name=v0", "--device=/nowhere/disk"],
  list: ["--all"],
  metrics: [],
  modify: ["--name=v0", "--vdoBioThreads=2"],
  printConfigFile: [],
  status: [],
  version: [],
};
const complete = (name: string): string[] => COMPLETE[name] ?? ["--name=v0"];
/** What a subcommand needs besides the choice of volumes. */
const own = (name: string): string[] => complete(name).filter((word) => word !== "--name=v0");
const NAMES = Object.keys(SUBCOMMANDS);
/** Subcommands that need no configuration. */
const UNCONFIGURED = ["version", "estimate", "calculateSize", "debugMetadata", "metrics"];
const CONFIGURED = NAMES.filter((name) => !UNCONFIGURED.includes(name));
const READING = ["list", "printConfigFile", "status"];

describe("every subcommand", () => {
  test.each(NAMES)("%s --help prints usage and every option on standard output", async (name) => {
    const { status, out, err } = await vdo(name, "--help");
    expect({ status, err }).toEqual({ status: 0, err: "" });
    expect(out).toMatch(new RegExp(`^usage: vdo ${name} \\[-h\\]`));
    for (const { flags, help } of SUBCOMMANDS[name]?.options ?? []) {
      expect(out.includes(flags.at(-1) ?? "")).toBe(help !== undefined);
    }
    expect(out).toContain("--confFile <file>");
    expect(out).not.toContain("--debug");
  });

  test.each(NAMES)("%s refuses an unknown option and an extra word", async (name) => {
    const takesWords = SUBCOMMANDS[name]?.operands !== undefined;
    for (const word of takesWords ? ["--bogus"] : ["--bogus", "extra"]) {
      const outcome = await vdo(name, ...complete(name), word);
      expect(outcome.status).toBe(2);
      expect(outcome.out).toBe("");
      expect(outcome.err).toMatch(new RegExp(`^usage: vdo ${name} `));
      expect(lastLine(outcome)).toBe(`vdo ${name}: error: unrecognized arguments: ${word}`);
    }
  });

  test.each(NAMES)("%s refuses a folder as configuration file", async (name) => {
    const outcome = await vdo(name, ...complete(name), `--confFile=${machine.folder}`);
    expect(outcome.status).toBe(2);
    // The formatter's -f is --force.
    const flags = name === "format" ? "--confFile" : "-f/--confFile";
    expect(lastLine(outcome)).toBe(`vdo ${name}: error: argument ${flags}: ${machine.folder} is a directory`);
  });

  test.each(CONFIGURED)("%s reports a corrupt configuration file", async (name) => {
    const file = join(machine.folder, "corrupt.yml");
    await writeFile(file, "config: !Configuration\n  vdos: [\n");
    const outcome = await vdo(name, ...complete(name), `--confFile=${file}`);
    expect(outcome.status).toBe(5);
    expect(outcome.err).toMatch(
      /^vdo: ERROR - Not a valid configuration file \(.*\n {6}The file is .*corrupt\.yml: mend it,/m,
    );
  });

  test.each(CONFIGURED)("%s reports a configuration it cannot read", async (name) => {
    const file = join(machine.folder, "a-file");
    await writeFile(file, "");
    const outcome = await vdo(name, ...complete(name), `--confFile=${file}/vdoconf.yml`);
    expect(outcome.status).toBe(7);
    expect(lastLine(outcome)).toMatch(/^vdo: ERROR - .*(not a directory|does not exist)/i);
  });

  test("modify needs something to modify", async () => {
    const outcome = await vdo("modify", "--all");
    expect(outcome.status).toBe(2);
    expect(lastLine(outcome)).toBe(
      "vdo modify: error: options must be specified from: --blockMapCacheSize, --blockMapPeriod, --maxDiscardSize, --uuid, --vdoAckThreads, --vdoBioRotationInterval, --vdoBioThreads, --vdoCpuThreads, --vdoHashZoneThreads, --vdoLogicalThreads, --vdoPhysicalThreads",
    );
    expect((await vdo("modify", "--all", "--attach=none")).status).toBe(0);
  });

  test("convert is refused", async () => {
    await vdo("create", "--name=v0", `--device=${await disk()}`, "--activate=disabled");
    expect(await vdo("convert", "--name=v0", "--force")).toEqual({
      status: 7,
      out: "",
      err: "vdo: ERROR - convert is not supported\n",
    });
  });

  test.each(NAMES.filter((name) => SUBCOMMANDS[name]?.selects === "one"))("%s needs --all or --name", async (name) => {
    expect(lastLine(await vdo(name, ...own(name)))).toBe(
      `vdo ${name}: error: one of the arguments -a/--all -n/--name is required`,
    );
    expect(lastLine(await vdo(name, "-n", "v0", "--all", ...own(name)))).toBe(
      `vdo ${name}: error: argument -a/--all: not allowed with argument -n/--name`,
    );
    expect((await vdo(name, "-a", "-nv0", ...own(name))).status).toBe(2);
    expect(await vdo(name, "--name=nope", ...own(name))).toEqual({
      status: 7,
      out: "",
      err: `vdo: ERROR - VDO volume nope not found\n      ${machine.configurationFile} has no volumes.\n`,
    });
    expect(await vdo(name, "--all", ...own(name))).toEqual({ status: 0, out: "", err: "" });
  });
});

describe("mistakes have the legacy texts", () => {
  test.each<[words: string[], message: string]>([
    [["create"], "vdo create: error: the following arguments are required: -n/--name, --device"],
    [["create", "--device=/x"], "vdo create: error: the following arguments are required: -n/--name"],
    [["create", "--activate"], "vdo create: error: argument --activate: expected one argument"],
    [
      ["create", "--writePolicy=fast"],
      "vdo create: error: argument --writePolicy: invalid choice: 'fast' (choose from 'async', 'async-unsafe', 'sync', 'auto')",
    ],
    [["create", "-na", "-nb", "--device=/x"], "vdo create: error: option 'name' was specified more than once"],
    [["list", "-f", "/a", "--confFile=/b"], "vdo list: error: option 'confFile' was specified more than once"],
    [
      ["create", "--blockMap=1"],
      "vdo create: error: ambiguous option: --blockMap=1 could match --blockMapCacheSize, --blockMapPeriod",
    ],
    [
      ["create", "--vdoSlab=3G"],
      "vdo create: error: argument --vdoSlabSize: must be a power of two between 128M and 32G",
    ],
    [["create", "--maxDiscardSize="], "vdo create: error: argument --maxDiscardSize: must be an SI-style size string"],
    [["create", "--device=x"], "vdo create: error: argument --device: must be an absolute pathname"],
    [
      ["create", "-n", "a b"],
      "vdo create: error: argument -n/--name: VDO device names may only contain characters in 'A-Za-z0-9#+.:@_-': bad value 'a b'",
    ],
    [
      ["create", "--name=-x"],
      "vdo create: error: argument -n/--name: VDO device names may not start with '-': bad value '-x'",
    ],
    [
      ["create", "--indexMem=0.50"],
      "vdo create: error: argument --indexMem: must be an integer at least 1 and less than or equal to 1024 or one of the special values of 0.25, 0.5, or 0.75",
    ],
    [
      ["create", "--vdoPhysicalThreads=17"],
      "vdo create: error: argument --vdoPhysicalThreads: must be an integer at least 0 and less than or equal to 16",
    ],
    [["create", "--uuid=zzz"], "vdo create: error: argument --uuid: must be a valid UUID or empty string"],
    [["import", "-nv0", "--device=/x", "--force"], "vdo import: error: unrecognized arguments: --force"],
    [["start", "--all", "--foreground"], "vdo start: error: argument --foreground: not allowed with argument -a/--all"],
  ])("%j", async (words, message) => {
    const outcome = await vdo(...words);
    expect(outcome.status).toBe(2);
    expect(lastLine(outcome)).toBe(message);
  });

  test("no subcommand is a usage line on standard output and status 1", async () => {
    expect(await vdo()).toEqual({ status: 1, out: "usage: vdo [-h] command ...\n", err: "" });
  });

  test("an unknown subcommand lists those that are", async () => {
    const outcome = await vdo("bogus");
    expect(outcome.status).toBe(2);
    expect(lastLine(outcome)).toBe(
      `vdo: error: argument command: invalid choice: 'bogus' (choose from ${NAMES.map((name) => `'${name}'`).join(", ")})`,
    );
    expect((await vdo("--bogus")).status).toBe(2);
    expect((await vdo("Create")).status).toBe(2);
  });

  test("the top-level help lists the subcommands and not the daemon's", async () => {
    const { status, out } = await vdo("--help");
    expect(status).toBe(0);
    for (const name of NAMES) expect(out).toMatch(new RegExp(`^ {4}${name}\\s`, "m"));
    expect(out).not.toContain("_serve");
  });
});

describe("what the commands do", () => {
  test("the options of create arrive in the configuration", async () => {
    const path = await disk();
    const created = await vdo(
      "create",
      "-nv1",
      `--device=${path}`,
      "--activate=disabled",
      "--emulate512=enabled",
      "--uuid=",
      "--vdoSlabSize=128M",
      "--deduplication=disabled",
      "--sparseIndex=enabled",
      "--indexMem=0,5",
      "--maxDiscardSize=1M",
      "--vdoLogicalSize=10000000B",
      "--compression=disabled",
      "--blockMapCache=1.5G",
      "--vdoBioThreads=+5",
    );
    expect(created).toMatchObject({ status: 0, err: "" });
    expect(created.out).toMatch(/^Creating VDO v1\n[\s\S]*\nStarting VDO v1\nVDO volume created at .*disk\n$/);
    const { out } = await vdo("printConfigFile");
    for (const line of [
      "activated: disabled",
      "bioThreads: 5",
      "blockMapCacheSize: 1536M",
      "compression: disabled",
      "deduplication: disabled",
      "indexMemory: 0.5",
      "indexSparse: enabled",
      "logicalBlockSize: 512",
      "logicalSize: 9764K",
      "maxDiscardSize: 1M",
      "slabSize: 128M",
      "uuid: ''",
    ]) {
      expect(out).toContain(`      ${line}\n`);
    }
    expect(out).toMatch(new RegExp(`\nfilename: ${machine.configurationFile}\n\n$`));
  });

  test("a volume's whole life by command lines", async () => {
    const path = await disk();
    expect((await vdo("create", "--name", "v0", "--device", path, "--attach=none")).status).toBe(0);
    expect((await vdo("list")).out).toBe("v0\n");
    expect((await vdo("disableCompression", "-a")).out).toBe(
      "Disabling compression on vdo v0\nStopping compression on VDO v0\n",
    );
    expect((await vdo("status", "--name=v0")).out).toContain("    Compression: disabled\n");
    expect(await vdo("stop", "--all")).toEqual({ status: 0, out: "Stopping VDO v0\n", err: "" });
    expect((await vdo("list")).out).toBe("\n");
    expect((await vdo("list", "-a")).out).toBe("v0\n");
    expect((await vdo("remove", "-n", "v0")).status).toBe(0);
    expect((await vdo("list", "-a")).out).toBe("\n");
  });

  test("reading commands change nothing on the disk", async () => {
    await vdo("create", "--name=v0", `--device=${await disk()}`, "--activate=disabled");
    const before = await readFile(machine.configurationFile, "utf8");
    for (const name of READING) expect((await vdo(name)).status).toBe(0);
    expect(await readFile(machine.configurationFile, "utf8")).toBe(before);
  });

  test("the log file gets the command line and the announcements", async () => {
    const logFile = join(machine.folder, "vdo.log");
    await vdo("create", "--name=v0", `--device=${await disk()}`, "--activate=disabled", `--logfile=${logFile}`);
    const text = await readFile(logFile, "utf8");
    expect(text).toMatch(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} vdo: INFO - running vdo create --name=v0 /);
    expect(text).toContain("vdo: INFO - Creating VDO v0\n");
    const failed = await vdo("list", `--logfile=${machine.folder}/no/such/folder/log`);
    expect(failed.status).toBe(1);
    expect(failed.err).toMatch(/^vdo: ERROR - Unable to configure logging to '/);
  });

  test("warnings and errors go to the system's log, where there is one", async () => {
    machine.programs.set("logger", () => ({}));
    await vdo("start", "--name=nope");
    expect(machine.ran).toEqual([]);
    await mkdir(join(machine.folder, "dev"), { recursive: true });
    await writeFile(join(machine.folder, "dev/log"), "");
    await vdo("start", "--name=nope");
    expect(machine.ran).toEqual(["logger --tag vdo --priority user.err -- ERROR - VDO volume nope not found"]);
  });

  test("--debug shows every record with its logger", async () => {
    const { err } = await vdo("start", "-nnope", "-d");
    expect(err).toMatch(/^vdo: vdo: INFO - running vdo start/);
    expect(err).toContain("vdo: vdo: ERROR - VDO volume nope not found\n");
  });

  test("a read-only configuration folder is an error that names the file", async () => {
    const path = await disk();
    const file = join(machine.folder, "blocked");
    await mkdir(file);
    await mkdir(join(file, "vdoconf.yml.new"));
    const outcome = await vdo("create", "--name=v0", `--device=${path}`, `--confFile=${file}/vdoconf.yml`);
    expect(outcome.status).toBe(7);
    expect(outcome.err).toContain("vdoconf.yml");
    expect((await readFile(path)).every((byte) => byte === 0)).toBe(true);
  });

  test("version", async () => {
    expect(await vdo("version")).toEqual({ status: 0, out: "VDO version: 1.2.3\n", err: "" });
  });
});
