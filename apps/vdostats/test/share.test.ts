/** The installed files are those that the table makes, and bash takes what is for it. */
import { spawnSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { SHARE_FILES } from "./support/share-files.ts";

const share = (path: string): string => fileURLToPath(new URL(`../share/${path}`, import.meta.url));

test.each(Object.keys(SHARE_FILES))("%s is what the table makes of it", async (path) => {
  expect(await readFile(share(path), "utf8")).toBe(SHARE_FILES[path]?.());
});

test("bash completes options and names of running volumes", () => {
  const complete = (word: string): string[] => {
    const script = `
      vdo() { printf 'vdo0\\nbackup\\n'; }
      source "$1"; COMP_WORDS=(vdostats "$2"); COMP_CWORD=1; _vdostats; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const words = ["-c", script, "bash", share("bash-completion/vdostats"), word];
    const { stdout, stderr } = spawnSync("bash", words, { encoding: "utf8" });
    expect(stderr).toBe("");
    return stdout.split("\n").filter((line) => line !== "");
  };
  expect(complete("--h")).toEqual(["--help", "--human-readable"]);
  expect(complete("b")).toEqual(["backup"]);
});
