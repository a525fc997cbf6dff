import { mkdtemp, rm, stat } from "node:fs/promises";
import { createConnection } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "@vdo/base";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { commandError } from "../errors.ts";
import { askIfRunning, controlRequest } from "./client.ts";
import { LINE_BYTES_MAX } from "./protocol.ts";
import { type ControlHandler, ControlServer } from "./server.ts";

let folder: string;
let path: string;
let server: ControlServer;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "vdo-control-"));
  path = join(folder, "ctl.sock");
  const handlers: [string, ControlHandler][] = [
    ["echo", (request) => request["value"]],
    ["nothing", () => undefined],
    ["big", () => ({ counter: 2n ** 60n, small: 5n })],
    ["busy", () => Promise.reject(commandError("VDO_WRONG_STATE", "in use"))],
    ["close", () => server.close()],
  ];
  server = new ControlServer(new Map(handlers));
  expect(await server.listen(path, 0o600, systemClock)).toBe(true);
});
afterEach(async () => {
  server.close();
  await rm(folder, { recursive: true, force: true });
});

/** What the server answers to raw text, until `lines` lines are there or the connection ends. */
function raw(text: string, lines: number): Promise<string[]> {
  return new Promise((resolve) => {
    const socket = createConnection(path, () => socket.write(text));
    let received = "";
    const finish = (): void => {
      socket.destroy();
      resolve(received.split("\n").filter((line) => line !== ""));
    };
    socket.setEncoding("utf8").on("data", (part: string) => {
      received += part;
      if (received.split("\n").length > lines) finish();
    });
    socket.on("close", finish);
    socket.on("error", () => undefined);
  });
}

describe("control socket", () => {
  test("results, errors with their status, and large numbers", async () => {
    expect(await controlRequest(path, "echo", { value: { a: [1] } })).toEqual({ a: [1] });
    expect(await controlRequest(path, "nothing")).toBeNull();
    expect(await controlRequest(path, "big")).toEqual({ counter: "1152921504606846976", small: 5 });
    await expect(controlRequest(path, "busy")).rejects.toMatchObject({ code: "VDO_WRONG_STATE", message: "in use" });
    await expect(controlRequest(path, "bogus")).rejects.toThrow('unknown operation "bogus"');
  });

  test("several requests on one connection are answered by their numbers", async () => {
    const answers = await raw('{"id":7,"op":"echo","value":1}\n{"id":8,"op":"bogus"}\n', 2);
    const byNumber = new Map(
      answers.map((line) => JSON.parse(line) as { id: number }).map((reply) => [reply.id, reply]),
    );
    expect(byNumber.get(7)).toEqual({ id: 7, ok: true, result: 1 });
    expect(byNumber.get(8)).toEqual({
      id: 8,
      ok: false,
      error: { code: "ENOSYS", message: 'unknown operation "bogus"', status: 1 },
    });
  });

  test.each(["not json\n", "[]\n", "null\n", '{"op":5}\n', '{"id":"x","op":"bogus"}\n'])(
    "%j is answered with an error, not with an end",
    async (text) => {
      const [answer = ""] = await raw(text, 1);
      expect(JSON.parse(answer)).toMatchObject({ ok: false });
      expect(await controlRequest(path, "echo", { value: 1 })).toBe(1);
    },
  );

  test("a line without end is cut off", async () => {
    expect(await raw("x".repeat(LINE_BYTES_MAX + 2), 1)).toEqual([]);
    expect(await controlRequest(path, "echo", { value: 1 })).toBe(1);
  });

  test("an operation may close the server and is still answered", async () => {
    expect(await controlRequest(path, "close")).toBeNull();
    expect(await askIfRunning(path, "echo")).toBeUndefined();
    await expect(stat(path)).rejects.toThrow("ENOENT");
  });

  test("a second server on the path is refused, and only the owner may connect", async () => {
    expect(await new ControlServer(new Map()).listen(path, 0o600, systemClock)).toBe(false);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
  });
});
