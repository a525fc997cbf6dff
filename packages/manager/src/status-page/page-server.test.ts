import { request } from "node:http";
import { VdoError } from "@vdo/base";
import { afterEach, beforeEach, expect, test } from "vitest";
import { PageServer, type SwitchName } from "./page-server.ts";
import type { VolumeSnapshot } from "./snapshot.ts";

const TOKEN = "a-token";

let moved: [SwitchName, boolean][];
let page: PageServer;
beforeEach(async () => {
  moved = [];
  page = await PageServer.listen({
    token: TOKEN,
    port: 0,
    files: new Map([
      ["/", { type: "text/html", content: Buffer.from("the page") }],
      ["/app.js", { type: "text/javascript", content: Buffer.from("the script") }],
    ]),
    source: {
      snapshot: () => ({ name: "v0", compression: moved.at(-1)?.[1] ?? false }) as VolumeSnapshot,
      history: () => ({ space: { intervalSeconds: 10, samples: [] }, activity: { intervalSeconds: 2, samples: [] } }),
      setSwitch: async (name, on) => {
        if (name === "deduplication") throw new VdoError("VDO_READ_ONLY", "the volume is read-only", { object: "v0" });
        moved.push([name, on]);
      },
    },
  });
});
afterEach(() => page.close());

interface Reply {
  status: number;
  headers: Record<string, unknown>;
  text: string;
}

function ask(path: string, options: { method?: string; body?: string; headers?: Record<string, string> } = {}) {
  const { method = "GET", body, headers = {} } = options;
  return new Promise<Reply>((resolve, reject) => {
    const { hostname, port } = new URL(page.url);
    const sent = request({ hostname, port, path, method, headers }, (answer) => {
      let text = "";
      answer.setEncoding("utf8").on("data", (part: string) => {
        text += part;
      });
      answer.on("end", () => resolve({ status: answer.statusCode ?? 0, headers: answer.headers, text }));
    });
    sent.on("error", reject).end(body);
  });
}

const authorized = { Authorization: `Bearer ${TOKEN}` };
const json = { ...authorized, "Content-Type": "application/json" };

test("the page's own files are there for everybody, with headers that keep everything else out", async () => {
  const answer = await ask("/");
  expect(answer).toMatchObject({ status: 200, text: "the page" });
  expect(answer.headers["content-security-policy"]).toMatch(
    /^default-src 'none'; script-src 'self'; style-src 'self';/,
  );
  expect(answer.headers["content-security-policy"]).not.toContain("unsafe");
  expect(answer.headers).toMatchObject({
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
  });
  expect(answer.headers["access-control-allow-origin"]).toBeUndefined();
  expect((await ask("/app.js?v=1")).text).toBe("the script");
  for (const path of ["/../package.json", "/%2e%2e/package.json", "/nothing", "/api", "//"]) {
    expect((await ask(path)).status, path).toBe(404);
  }
  expect(await ask("/", { method: "POST" })).toMatchObject({ status: 405, headers: { allow: "GET" } });
});

test("data and switches need the token", async () => {
  expect(await ask("/api/snapshot")).toMatchObject({ status: 401, headers: { "www-authenticate": "Bearer" } });
  expect((await ask("/api/history")).status).toBe(401);
  expect((await ask("/api/nothing")).status).toBe(401);
  expect((await ask(`/api/snapshot?token=${TOKEN}`)).status).toBe(401);
  const refused = await ask("/api/compression", { method: "POST", body: '{"enabled":true}' });
  expect(refused.status).toBe(401);
  expect(moved).toEqual([]);
  expect(JSON.parse((await ask("/api/snapshot", { headers: authorized })).text)).toMatchObject({ name: "v0" });
  expect((await ask("/api/history", { headers: authorized })).status).toBe(200);
  expect((await ask("/api/nothing", { headers: authorized })).status).toBe(404);
});

test("a rebound name and a foreign origin get nothing", async () => {
  expect((await ask("/", { headers: { Host: "evil.example" } })).status).toBe(403);
  expect((await ask("/api/snapshot", { headers: { ...authorized, Host: "evil.example" } })).status).toBe(403);
  expect((await ask("/api/snapshot", { headers: { ...authorized, Origin: "http://evil.example" } })).status).toBe(403);
});

test("switches move by POST with a JSON body, and answer with the volume as it is then", async () => {
  const post = (body: string, headers: Record<string, string> = json) =>
    ask("/api/compression", { method: "POST", body, headers });
  const answer = await post('{"enabled":true}');
  expect(answer.status).toBe(200);
  expect(JSON.parse(answer.text)).toEqual({ name: "v0", compression: true });
  expect(moved).toEqual([["compression", true]]);
  expect((await ask("/api/compression", { headers: authorized })).status).toBe(405);
  expect((await post('{"enabled":true}', authorized)).status).toBe(415);
  for (const body of ["", "{", "null", "[]", '{"enabled":"yes"}', '{"enabled":1}']) {
    expect((await post(body)).status, body).toBe(400);
  }
  await expect(post(`{"enabled":true,"x":"${"x".repeat(100_000)}"}`).then(({ status }) => status)).resolves.toBe(400);
  expect(moved).toHaveLength(1);
});

test("a switch that cannot be moved says why", async () => {
  const answer = await ask("/api/deduplication", { method: "POST", body: '{"enabled":true}', headers: json });
  expect(answer.status).toBe(409);
  expect(JSON.parse(answer.text)).toEqual({ error: { code: "VDO_READ_ONLY", message: "the volume is read-only" } });
});

test("a port that another program has is an error that names the way out", async () => {
  const { port } = new URL(page.url);
  const twin = PageServer.listen({ token: "", port: Number(port), files: new Map(), source: {} as never });
  await expect(twin).rejects.toThrow(
    `The status page cannot use port ${port} of 127.0.0.1: another program listens there. Choose another with --statusPage=PORT, or any free one with --statusPage=enabled`,
  );
});
