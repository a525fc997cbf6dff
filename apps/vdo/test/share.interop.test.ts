/** The installed files in the programs that they are for: bash, groff and systemd. */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { describeWith } from "@vdo/block-device/testing";
import { describe, expect, test } from "vitest";

const share = (path: string): string => fileURLToPath(new URL(`../share/${path}`, import.meta.url));

/** What bash offers for the last of these words; `vdo` is a stand-in that knows two volumes. */
function complete(...words: string[]): string[] {
  const script = `
    vdo() { printf 'vdo0\\nbackup\\n'; }
    source "$1"; shift
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
    _vdo
    printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout, stderr } = spawnSync("bash", ["-c", script, "bash", share("bash-completion/vdo"), ...words], {
    encoding: "utf8",
  });
  expect(stderr).toBe("");
  return stdout.split("\n").filter((line) => line !== "");
}

test("bash completes subcommands, options, choices and names", () => {
  expect(complete("vdo", "grow")).toEqual(["growLogical", "growPhysical"]);
  expect(complete("vdo", "growPhysical", "--vdo")).toEqual(["--vdoPhysicalSize"]);
  expect(complete("vdo", "changeWritePolicy", "--writePolicy", "as")).toEqual(["async", "async-unsafe"]);
  expect(complete("vdo", "changeWritePolicy", "--writePolicy", "=", "s")).toEqual(["sync"]);
  expect(complete("vdo", "changeWritePolicy", "--writePolicy", "=")).toHaveLength(4);
  expect(complete("vdo", "stop", "--name", "")).toEqual(["vdo0", "backup"]);
  expect(complete("vdo", "import", "--device", "/etc/host")).toContain("/etc/hostname");
});

describeWith(
  ["groff"],
  "the manual page",
  () => {
    test("groff takes it without a complaint", () => {
      const { stdout, stderr, status } = spawnSync("groff", ["-man", "-Tutf8", "-ww", "-z", share("man/man8/vdo.8")], {
        encoding: "utf8",
      });
      expect({ stdout, stderr, status }).toEqual({ stdout: "", stderr: "", status: 0 });
    });
  },
  { describe, test },
);

describeWith(
  ["systemd-analyze"],
  "the units",
  () => {
    for (const unit of ["vdo@v0.service", "vdo.service", "vdo-metrics.service"]) {
      test(`systemd takes ${unit}`, () => {
        const path = share(`systemd/${unit.replace("@v0", "@")}`);
        const { stderr } = spawnSync("systemd-analyze", ["verify", "--man=no", path], { encoding: "utf8" });
        // The program is not installed where the units expect it.
        const complaints = stderr.split("\n").filter((line) => line.includes(unit.split(/[@.]/)[0] ?? ""));
        expect(complaints.filter((line) => !line.includes("/usr/bin/vdo is not executable"))).toEqual([]);
      });
    }
  },
  { describe, test },
);
