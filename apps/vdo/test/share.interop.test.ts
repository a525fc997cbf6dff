/** The installed files in the programs that they are for: bash, groff, systemd and Prometheus. */
import { spawnSync } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describeWith } from "@vdo/block-device/testing";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse, stringify } from "yaml";
import { dashboardExpressions } from "../src/documents/grafana-dashboard.ts";

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
  expect(complete("vdo", "thin", "rec")).toEqual(["receive"]);
  expect(complete("vdo", "thin", "send", "--bas")).toEqual(["--base", "--base-digest"]);
});

describeWith(
  ["groff"],
  "the manual page",
  () => {
    test.each(["vdo.8", "vdo-thin.8", "vdo-ploop.8", "../../../../vdostats/share/man/man8/vdostats.8"])(
      "groff takes %s",
      (page) => {
        const words = ["-man", "-Tutf8", "-ww", "-z", share(`man/man8/${page}`)];
        const { stdout, stderr, status } = spawnSync("groff", words, { encoding: "utf8" });
        expect({ stdout, stderr, status }).toEqual({ stdout: "", stderr: "", status: 0 });
      },
    );
  },
  { describe, test },
);

describeWith(
  ["systemd-analyze"],
  "the units",
  () => {
    for (const unit of ["vdo@v0.service", "vdo@v0.socket", "vdo.service", "vdo-thin.service", "vdo-metrics.service"]) {
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

describeWith(
  ["promtool"],
  "the alert rules and the dashboard",
  () => {
    let folder: string;
    beforeAll(async () => {
      folder = await mkdtemp(join(tmpdir(), "vdo-promtool-"));
    });
    afterAll(() => rm(folder, { recursive: true }));

    async function promtool(...words: [...string[], content: string]): Promise<string> {
      const file = join(folder, "file.yml");
      await writeFile(file, words.at(-1) ?? "");
      const { status, stdout, stderr } = spawnSync("promtool", [...words.slice(0, -1), file], { encoding: "utf8" });
      return status === 0 ? "ok" : stdout + stderr;
    }

    test("promtool takes the rules", async () => {
      expect(await promtool("check", "rules", await readFile(share("prometheus/vdo-alerts.yml"), "utf8"))).toBe("ok");
    });

    test("promtool takes every expression of the dashboard", async () => {
      const rules = dashboardExpressions().map((expression, index) => ({
        record: `panel:${index}`,
        expr: expression.replaceAll("$__rate_interval", "1m"),
      }));
      expect(await promtool("check", "rules", stringify({ groups: [{ name: "panels", rules }] }))).toBe("ok");
    });

    test("the alerts fire for a volume that fills up, fails and loses writes, and not for a healthy one", async () => {
      expect(await promtool("test", "rules", stringify(await alertScenario(share("prometheus/vdo-alerts.yml"))))).toBe(
        "ok",
      );
    });
  },
  { describe, test },
);

/** Ten minutes of two volumes as promtool plays them, and the alerts that stand at their end. */
async function alertScenario(rules: string): Promise<object> {
  const known = parse(await readFile(rules, "utf8")) as {
    groups: { rules: { alert: string; annotations: Record<string, string> }[] }[];
  };
  const annotations = (alert: string) => {
    const rule = known.groups.flatMap((group) => group.rules).find((one) => one.alert === alert);
    const texts = Object.entries(rule?.annotations ?? {}).map(([key, text]) => [
      key,
      text.replaceAll("{{ $labels.volume }}", "bad").replace("{{ $value | humanizePercentage }}", "96%"),
    ]);
    return Object.fromEntries(texts) as Record<string, string>;
  };
  const fires = (alertname: string, severity: string, labels: Record<string, string> = {}) => ({
    alertname,
    eval_time: "10m",
    exp_alerts: [{ exp_labels: { severity, volume: "bad", ...labels }, exp_annotations: annotations(alertname) }],
  });
  const series = (metric: string, values: string) => ({ series: metric, values });
  return {
    rule_files: [rules],
    evaluation_interval: "1m",
    tests: [
      {
        interval: "1m",
        input_series: [
          series('vdo_used_ratio{volume="good"}', "0.5x10"),
          series('vdo_used_ratio{volume="bad"}', "0.96x10"),
          series('vdo_mode{volume="good",mode="read-only"}', "0x10"),
          series('vdo_mode{volume="bad",mode="read-only"}', "1x10"),
          series('vdo_errors_no_space_error_count{volume="good"}', "0x10"),
          series('vdo_errors_no_space_error_count{volume="bad"}', "0+1x10"),
        ],
        alert_rule_test: [
          fires("VdoFillingUp", "warning"),
          fires("VdoAlmostFull", "critical"),
          fires("VdoReadOnly", "critical", { mode: "read-only" }),
          fires("VdoNoSpaceErrors", "critical"),
        ],
      },
    ],
  };
}
