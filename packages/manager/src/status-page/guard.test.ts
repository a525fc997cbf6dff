import { expect, test } from "vitest";
import { denyData, denyHost, newToken } from "./guard.ts";

test("the page answers to names of the loopback alone, at any port", () => {
  for (const host of ["127.0.0.1:8080", "localhost", "LOCALHOST:9000", "[::1]:80"]) {
    expect(denyHost({ host }), host).toBeUndefined();
  }
  for (const host of [
    "evil.example",
    "evil.example:8080",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "",
    "0.0.0.0",
  ]) {
    expect(denyHost({ host }), host).toMatchObject({ status: 403, code: "FORBIDDEN_HOST" });
  }
  expect(denyHost({})).toMatchObject({ status: 403 });
});

test("data needs the token, whole and in its header", () => {
  const token = newToken();
  const host = "localhost:1";
  expect(denyData({ host, authorization: `Bearer ${token}` }, token)).toBeUndefined();
  const wrong = [
    undefined,
    "",
    "Bearer ",
    `Bearer ${token.slice(1)}`,
    `Bearer ${token}x`,
    `Basic ${token}`,
    token,
    `Bearer ${"a".repeat(100_000)}`,
  ];
  for (const authorization of wrong) {
    const headers = authorization === undefined ? { host } : { host, authorization };
    expect(denyData(headers, token), authorization).toMatchObject({ status: 401, code: "UNAUTHORIZED" });
  }
});

test("requests of other origins are refused even with the token", () => {
  const token = newToken();
  const own = { host: "127.0.0.1:8080", authorization: `Bearer ${token}` };
  expect(denyData({ ...own, origin: "http://127.0.0.1:8080", "sec-fetch-site": "same-origin" }, token)).toBeUndefined();
  for (const foreign of [
    { origin: "http://127.0.0.1:9090" },
    { origin: "https://evil.example" },
    { origin: "null" },
    { "sec-fetch-site": "cross-site" },
    { "sec-fetch-site": "same-site" },
  ]) {
    expect(denyData({ ...own, ...foreign }, token)).toMatchObject({ status: 403, code: "FORBIDDEN_ORIGIN" });
  }
});

test("tokens are long, differ, and need no escape in a URL", () => {
  expect(newToken()).toMatch(/^[\w-]{43}$/);
  expect(newToken()).not.toBe(newToken());
});
