import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { systemPrograms } from "../host/programs.ts";
import { TestMachine } from "../testing/machine.ts";
import { runFullHook } from "./full-hook.ts";

test("the command gets the name and the percentage; a failure is logged and nothing else", async () => {
  const machine = await TestMachine.make();
  const folder = await mkdtemp(join(tmpdir(), "vdo-hook-"));
  const environment = { ...machine.environment, programs: systemPrograms(process.env["PATH"] ?? "") };
  const logged: string[] = [];
  const run = async (command: string, lines: number): Promise<void> => {
    runFullHook(command, { name: "v0", percent: "85.01" }, environment, (_level, text) => logged.push(text));
    for (let wait = 0; logged.length < lines && wait < 200; wait++) await new Promise((done) => setTimeout(done, 10));
  };
  try {
    const file = join(folder, "said");
    await run(`f() { echo "$1 is $2 percent full" > ${file}; exit 3; }; f`, 2);
    expect(await readFile(file, "utf8")).toBe("v0 is 85.01 percent full\n");
    expect(logged[1]).toBe("the command for full volumes ended with status 3: ");
    await run("/no/such/program", 4);
    expect(logged[3]).toContain("ended with status 127");
  } finally {
    await rm(folder, { recursive: true });
    await machine.remove();
  }
});
