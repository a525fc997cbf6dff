/** The files that are installed beside the program. */
import { readFile } from "node:fs/promises";
import { metricsCatalogue } from "@vdo/manager";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { manPage } from "../src/documents/man-page.ts";
import { roff } from "../src/documents/roff.ts";
import { SUBCOMMANDS } from "../src/subcommands.ts";
import { SHARE_FILES } from "./support/share-files.ts";

const share = (path: string): Promise<string> => readFile(new URL(`../share/${path}`, import.meta.url), "utf8");

interface Rules {
  groups: { rules: { alert: string; expr: string; annotations: Record<string, string> }[] }[];
}

const metricNames = async () => (await metricsCatalogue()).map(({ name }) => name);

test("every alert rule asks for metrics that exist, and says what to do", async () => {
  const known = await metricNames();
  const { groups } = parse(await share("prometheus/vdo-alerts.yml")) as Rules;
  const rules = groups.flatMap((group) => group.rules);
  expect(rules.length).toBeGreaterThan(4);
  for (const { alert, expr, annotations } of rules) {
    const names = expr.match(/\bvdo_\w+/g) ?? [];
    expect(names.length, alert).toBeGreaterThan(0);
    for (const name of names) expect(known, alert).toContain(name);
    expect(annotations["description"], alert).not.toBe(undefined);
  }
});

test("every panel and every variable of the dashboard asks for metrics that exist", async () => {
  const known = await metricNames();
  const dashboard = JSON.parse(await share("grafana/vdo-dashboard.json")) as {
    panels: { title: string; targets: { expr: string }[] }[];
    templating: { list: { query: string }[] };
  };
  expect(dashboard.panels.length).toBeGreaterThan(10);
  const variables = dashboard.templating.list.map(({ query }) => ({ title: "variable", targets: [{ expr: query }] }));
  const asked = new Set<string>();
  for (const { title, targets } of [...dashboard.panels, ...variables]) {
    for (const { expr } of targets) {
      for (const [name] of expr.matchAll(/\bvdo_\w+/g)) {
        expect(known, title).toContain(name);
        asked.add(name);
      }
    }
    expect(targets.length, title).toBeGreaterThan(0);
  }
  expect(asked.size).toBeGreaterThan(20);
});

test.each(["vdo@.service", "vdo.service", "vdo-metrics.service"])("%s calls commands that exist", async (unit) => {
  const text = await share(`systemd/${unit}`);
  const calls = [...text.matchAll(/^Exec\w+=\/usr\/bin\/vdo (\w+)(.*)$/gm)];
  expect(calls.length).toBeGreaterThan(0);
  for (const [, name = "", words = ""] of calls) {
    const subcommand = SUBCOMMANDS[name];
    expect(subcommand, name).toBeDefined();
    for (const [flag] of words.matchAll(/--\w+/g)) {
      const known = ["--name", "--all", ...(subcommand?.options ?? []).flatMap(({ flags }) => flags)];
      expect(known).toContain(flag);
    }
  }
});

test.each(Object.keys(SHARE_FILES))("%s is what the tables say; write-share.ts makes it", async (path) => {
  expect(await share(path)).toBe(await SHARE_FILES[path]?.());
});

test("the manual page names every subcommand and every option that help shows", () => {
  const page = manPage();
  for (const [name, { options }] of Object.entries(SUBCOMMANDS)) {
    expect(page).toContain(`\n.SS ${name}\n`);
    for (const { flags, help } of options) {
      if (help !== undefined) expect(page).toContain(`\\fB${roff(flags.at(-1) ?? "")}\\fR`);
    }
  }
});

test("text that looks like a request is plain text in the manual", () => {
  expect(roff(".so /etc/passwd")).toBe("\\&.so /etc/passwd");
  expect(roff("a\\b-c")).toBe("a\\eb\\-c");
});
