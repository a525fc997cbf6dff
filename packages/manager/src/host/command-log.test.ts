import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { CommandLog, rotate, timestamp } from "./command-log.ts";

test("a full log file is rotated, and five old ones are kept", async () => {
  const folder = await mkdtemp(join(tmpdir(), "vdo-log-"));
  const path = join(folder, "vdo.log");
  for (let n = 0; n < 7; n++) {
    await writeFile(path, `run ${n}\n`);
    rotate(path);
    expect(await readFile(path, "utf8")).toBe(`run ${n}\n`);
    await truncate(path, 10 * 1024 * 1024);
    rotate(path);
  }
  expect((await readdir(folder)).sort()).toEqual([1, 2, 3, 4, 5].map((n) => `vdo.log.${n}`));
  expect((await readFile(`${path}.1`, "utf8")).slice(0, 6)).toBe("run 6\n");
  expect((await readFile(`${path}.5`, "utf8")).slice(0, 6)).toBe("run 2\n");
  await rm(folder, { recursive: true });
});

test("announcements, steps, warnings and errors go where scripts expect them", () => {
  let out = "";
  let err = "";
  const options = {
    program: "vdo",
    out: (text: string) => {
      out += text;
    },
    err: (text: string) => {
      err += text;
    },
    wallMicroseconds: () => 0,
  };
  const log = new CommandLog({ ...options, verbose: true });
  log.announce("Creating VDO v0");
  log.step("format /dev/sdb");
  log.warning("careful");
  log.error(new Error("broken"));
  log.info("for the file only");
  new CommandLog(options).step("not shown");
  expect(out).toBe("Creating VDO v0\n    format /dev/sdb\n");
  expect(err).toBe("vdo: WARNING - careful\nvdo: ERROR - broken\n");
});

test("a record's time is local, with milliseconds", () => {
  const local = new Date(2024, 0, 2, 3, 4, 5, 67);
  expect(timestamp(local.getTime() * 1000)).toBe("2024-01-02 03:04:05,067");
});
