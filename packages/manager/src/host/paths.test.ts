import { mkdir, symlink, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { TestMachine } from "../testing/machine.ts";
import type { ClientEnvironment } from "./environment.ts";
import { Paths } from "./paths.ts";

let machine: TestMachine;
beforeEach(async () => {
  machine = await TestMachine.make();
});
afterEach(() => machine.remove());

const pathsOf = (changes: Partial<ClientEnvironment>) =>
  new Paths({ ...machine.environment, variables: {}, home: "/users/me", temporaryFolder: "/tmp", ...changes });

describe("where things live", () => {
  test("for root", () => {
    const paths = pathsOf({ uid: 0 });
    expect(paths.configuration(undefined)).toBe("/etc/vdoconf.yml");
    expect(paths.volume("v0")).toEqual({
      folder: "/run/vdo/v0",
      nbdSocket: "/run/vdo/v0/nbd.sock",
      controlSocket: "/run/vdo/v0/ctl.sock",
      pidFile: "/run/vdo/v0/pid",
      stateFile: "/run/vdo/v0/state.json",
      tokenFile: "/run/vdo/v0/status-page.token",
      fuseFolder: "/run/vdo/v0/fuse",
      logFile: "/var/log/vdo/v0.log",
    });
    expect(pathsOf({ uid: 0, platform: "darwin" }).runtimeRoot).toBe("/var/run/vdo");
  });

  test("for others", () => {
    const paths = pathsOf({ uid: 1000 });
    expect(paths.configuration(undefined)).toBe("/users/me/.config/vdo/vdoconf.yml");
    expect(paths.runtimeRoot).toBe("/tmp/vdo-1000");
    expect(paths.volume("v").logFile).toBe("/users/me/.local/state/vdo/v.log");
    const variables = { XDG_CONFIG_HOME: "/c", XDG_RUNTIME_DIR: "/r", XDG_STATE_HOME: "/s" };
    const custom = pathsOf({ uid: 1000, variables });
    expect(custom.configuration(undefined)).toBe("/c/vdo/vdoconf.yml");
    expect(custom.runtimeRoot).toBe("/r/vdo");
    expect(custom.volume("v").logFile).toBe("/s/vdo/v.log");
  });

  test("where variables and options say", () => {
    const paths = pathsOf({ variables: { VDO_CONF_DIR: "/conf", VDO_RUN_DIR: "/run2" } });
    expect(paths.configuration(undefined)).toBe("/conf/vdoconf.yml");
    expect(paths.configuration("/else/c.yml")).toBe("/else/c.yml");
    expect(paths.runtimeRoot).toBe("/run2");
  });

  test("a socket whose path would be too long has a short name, another one for each volume", () => {
    const paths = pathsOf({ variables: { VDO_RUN_DIR: "/r" } });
    const common = "a".repeat(100);
    const [one, two] = [paths.volume(`${common}1`), paths.volume(`${common}2`)];
    expect(one.controlSocket).toMatch(/^\/r\/\.s\/[0-9a-f]{16}\.ctl$/);
    expect(one.nbdSocket).toMatch(/^\/r\/\.s\/[0-9a-f]{16}\.nbd$/);
    expect(one.controlSocket).not.toBe(two.controlSocket);
    expect(Buffer.byteLength(paths.volume("b".repeat(94)).nbdSocket)).toBeLessThanOrEqual(107);
  });

  test("a runtime folder that is a link, owned by someone else, or too deep is refused", async () => {
    const real = join(machine.folder, "real");
    await mkdir(real);
    const link = join(machine.folder, "link");
    await symlink(real, link);
    const own = machine.environment.uid;
    await expect(pathsOf({ uid: own, variables: { VDO_RUN_DIR: link } }).prepare()).rejects.toThrow(
      `${link} is a link or owned by someone else; set VDO_RUN_DIR`,
    );
    await expect(pathsOf({ uid: own + 1, variables: { VDO_RUN_DIR: real } }).prepare()).rejects.toThrow(
      "is a link or owned by someone else",
    );
    const deep = join(machine.folder, "d".repeat(90));
    await expect(pathsOf({ uid: own, variables: { VDO_RUN_DIR: deep } }).prepare()).rejects.toThrow("is too long");
  });
});

test("a volume with a long name runs on short socket names", async () => {
  const name = "n".repeat(120);
  const device = join(machine.folder, "disk");
  await writeFile(device, "");
  await truncate(device, 1 << 20);
  await machine.manager().create({ name, device, settings: { attach: "none" }, force: false });
  expect(await machine.manager().list({ all: false })).toEqual([name]);
  expect(machine.daemons.get(name)?.state.nbdSocket).toMatch(/\/\.s\/[0-9a-f]{16}\.nbd$/);
  await machine.manager().remove({ name }, { force: false });
});
