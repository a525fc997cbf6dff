import { symlink, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { TestMachine } from "@vdo/manager/testing";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { runVdostats } from "./run.ts";

let machine: TestMachine;
beforeEach(async () => {
  machine = await TestMachine.make();
});
afterEach(() => machine.remove());

async function vdostats(...words: string[]) {
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
  const status = await runVdostats({ words, streams, environment: machine.environment });
  return { status, out, err };
}

async function volume(name: string, mebibytes: number): Promise<string> {
  const device = join(machine.folder, `${name}.img`);
  await writeFile(device, "");
  await truncate(device, mebibytes * 1024 ** 2);
  await machine.manager().create({ name, device, settings: { attach: "none" }, force: false });
  return device;
}

const USAGE = "vdostats: Usage: vdostats [--help] [--version] [options...] [device [device ...]]\n\n";
const HEADER = "Device 1k-blocks      Used Available Use% Space saving%\n";

describe("vdostats", () => {
  test.each(["--help", "-h", "--he"])("%s prints help", async (word) => {
    const { status, out, err } = await vdostats(word);
    expect({ status, err }).toEqual({ status: 0, err: "" });
    for (const option of ["--all", "--human-readable", "--si", "--verbose", "--version", "--json"]) {
      expect(out).toContain(option);
    }
  });

  test.each(["--version", "-V", "--vers"])("%s prints the version", async (word) => {
    expect(await vdostats(word)).toEqual({ status: 0, out: "vdostats version is: 1.2.3\n", err: "" });
  });

  test.each([
    ["--bogus", "unrecognized option '--bogus'"],
    ["-x", "invalid option -- 'x'"],
    ["-ax", "invalid option -- 'x'"],
    ["--ver", "option '--ver' is ambiguous; possibilities: '--verbose' '--version'"],
    ["--all=yes", "option '--all' doesn't allow an argument"],
  ])("%s is refused with the usage line", async (word, mistake) => {
    expect(await vdostats(word)).toEqual({ status: 1, out: "", err: `vdostats: ${mistake}\n${USAGE}` });
  });

  test("without a running volume", async () => {
    expect(await vdostats()).toEqual({
      status: 1,
      out: "",
      err: "vdostats: Could not find any VDO devices\n      No volume of this user runs: vdo start --all serves those that are configured.\n",
    });
    expect(await vdostats("v0")).toEqual({
      status: 1,
      out: "",
      err: "vdostats: 'v0': Not a valid running VDO device\n      vdo list shows the running volumes.\n",
    });
  });

  test("the table, in every form", async () => {
    await volume("vdo0", 8);
    const row = "vdo0        8192        40      8152   0%            0%\n";
    expect(await vdostats()).toEqual({ status: 0, out: HEADER + row, err: "" });
    expect((await vdostats("--human-readable")).out).toBe(
      "Device      Size      Used Available Use% Space saving%\nvdo0        8.0M     40.0K      8.0M   0%            0%\n",
    );
    expect((await vdostats("-s")).out).toContain("\nvdo0        8.4M     41.0K      8.3M   0%            0%\n");
    expect((await vdostats("-rs")).out).toBe((await vdostats("--si")).out);
  });

  test("operands: names, device paths and storage; the first wrong one ends the program", async () => {
    const device = await volume("vdo0", 8);
    await volume("another-volume", 4);
    expect((await vdostats()).out.split("\n").map((line) => line.split(" ")[0])).toEqual([
      "Device",
      "another-volume",
      "vdo0",
      "",
    ]);
    const link = join(machine.folder, "link");
    await symlink(device, link);
    expect((await vdostats("/dev/mapper/vdo0", "/dev/vdo/another-volume")).out).toMatch(/\nvdo0 .*\nanother-volume /);
    expect((await vdostats(link)).out).toContain("\nlink   ");
    expect(await vdostats("vdo0", "nope", "another-volume")).toEqual({
      status: 1,
      out: `${HEADER}vdo0        8192        40      8152   0%            0%\n`,
      err: "vdostats: 'nope': Not a valid running VDO device\n      vdo list shows the running volumes.\n",
    });
    expect((await vdostats("--", "--all")).err).toBe(
      "vdostats: '--all': Not a valid running VDO device\n      vdo list shows the running volumes.\n",
    );
  });

  test.each(["--verbose", "--all", "-v", "-a"])("%s prints every statistic", async (word) => {
    await volume("vdo0", 8);
    const lines = (await vdostats(word, "/dev/vdo/vdo0")).out.split("\n");
    expect(lines[0]).toBe("/dev/vdo/vdo0 : ");
    expect(lines).toHaveLength(167);
    expect(lines[1]).toBe(`  ${"version".padEnd(37)} : 36`);
    expect(lines[3]).toBe(`  ${"overhead blocks used".padEnd(37)} : 10`);
    expect(lines[165]).toBe(`  ${"entries discarded".padEnd(37)} : 0`);
  });

  test("--json has the names of the stats message", async () => {
    await volume("vdo0", 8);
    const [entry] = JSON.parse((await vdostats("--json")).out) as { name: string; stats: Record<string, unknown> }[];
    expect(entry?.name).toBe("vdo0");
    expect(entry?.stats).toMatchObject({ version: 36, physicalBlocks: 2048, instance: 0, biosIn: { read: 0 } });
  });
});
