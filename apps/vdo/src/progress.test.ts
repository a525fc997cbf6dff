import { expect, test } from "vitest";
import { ProgressLine, progressText } from "./progress.ts";

test("the bar, the share and the speed", () => {
  expect(progressText({ what: "copied", done: 2 ** 30, total: 2 ** 31, seconds: 8 })).toBe(
    "copied [###############---------------]  50 % of 2.0 GiB, 128 MiB/s",
  );
  expect(progressText({ what: "copied", done: 0, total: 0, seconds: 0 })).toBe(
    "copied [##############################] 100 % of 0.0 GiB",
  );
});

test("nothing is shown where there is no terminal, and the line is taken away where there is one", () => {
  let err = "";
  const streams = {
    out: () => undefined,
    err: (text: string) => {
      err += text;
    },
  };
  new ProgressLine(streams).show("copied", 1, 2);
  expect(err).toBe("");
  const line = new ProgressLine({ ...streams, isTerminal: true });
  line.show("copied", 1, 2);
  line.show("copied", 1, 2);
  line.end();
  expect(err.match(/50 %/g)).toHaveLength(1);
  expect(err.endsWith("\r\x1b[K")).toBe(true);
});
