import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { assembledModule, assembledPath, wasmSources } from "./support/assemble-wasm.ts";

test.each(wasmSources())("the embedded bytes of %s are those of its source", async (name) => {
  expect(readFileSync(assembledPath(name), "utf8")).toBe(await assembledModule(name));
});
