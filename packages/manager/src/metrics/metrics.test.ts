import { truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { emptyStatistics } from "@vdo/kvdo";
import { afterEach, beforeEach, expect, test } from "vitest";
import { emptyActivity } from "../daemon/measured-device.ts";
import { TestMachine } from "../testing/machine.ts";
import { MetricsServer } from "./metrics-server.ts";
import { metricsCatalogue, metricsText } from "./volume-metrics.ts";

let machine: TestMachine;
beforeEach(async () => {
  machine = await TestMachine.make();
});
afterEach(() => machine.remove());

const statistics = () => ({
  ...emptyStatistics(),
  dataBlocksUsed: 30,
  overheadBlocksUsed: 10,
  physicalBlocks: 50,
});
const volume = (name: string) => ({ name, operand: name, indexState: "online", compression: true });

test("names are stable, types are told, and each volume has its label", async () => {
  const text = await metricsText(
    [
      { ...volume("a"), statistics: { ...statistics(), mode: "read-only" } },
      {
        ...volume("b"),
        statistics: { ...statistics(), dedupeAdviceTimeouts: 3, logicalBlocksUsed: 40 },
        activity: { ...emptyActivity(), write: { requests: 2, bytes: 8192, seconds: 0.5 } },
      },
    ],
    "1.2.3",
  );
  const lines = text.split("\n");
  for (const line of [
    'vdo_exporter_info{version="1.2.3"} 1',
    "vdo_volumes_running 2",
    'vdo_mode{volume="a",mode="read-only"} 1',
    'vdo_mode{volume="a",mode="normal"} 0',
    'vdo_used_ratio{volume="b"} 0.8',
    "# TYPE vdo_data_blocks_used gauge",
    'vdo_data_blocks_used{volume="b"} 30',
    'vdo_saving_ratio{volume="b"} 0.25',
    'vdo_index_state{volume="a",state="online"} 1',
    'vdo_compression_enabled{volume="a"} 1',
    'vdo_client_requests_total{volume="b",operation="write"} 2',
    'vdo_client_bytes_total{volume="b",operation="write"} 8192',
    'vdo_client_seconds_total{volume="b",operation="write"} 0.5',
    "# HELP vdo_physical_blocks Physical blocks, blocks of 4096 bytes.",
    "# TYPE vdo_bios_in_write counter",
    "# TYPE vdo_bios_in_progress_write gauge",
    "# TYPE vdo_dedupe_advice_timeouts counter",
    'vdo_dedupe_advice_timeouts{volume="b"} 3',
    'vdo_errors_invalid_advice_pbn_count{volume="a"} 0',
    'vdo_max_vios{volume="a"} 0',
    "# TYPE vdo_block_map_cache_size gauge",
    "# TYPE vdo_journal_blocks_committed counter",
    "# TYPE vdo_slab_journal_flush_count counter",
    'vdo_in_recovery_mode{volume="a"} 0',
  ]) {
    expect(
      lines.map((one) => one.replace(/^(vdo_max_vios\{.*\}) \d+$/, "$1 0")),
      line,
    ).toContain(line);
  }
  // What vdostats prints as N/A for a read-only volume.
  expect(text).not.toContain('vdo_data_blocks_used{volume="a"}');
  expect(text).not.toContain('vdo_used_ratio{volume="a"}');
  expect(text).not.toContain("vdo_recovery_percentage");
});

test("the catalogue has every metric once, with its kind and labels", async () => {
  const catalogue = await metricsCatalogue();
  const names = catalogue.map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
  for (const { name, help, type } of catalogue) {
    expect(name).toMatch(/^vdo_[a-z0-9_]+$/);
    expect(help.length, name).toBeGreaterThan(5);
    expect(["gauge", "counter"], name).toContain(type);
  }
  expect(catalogue.find(({ name }) => name === "vdo_mode")?.labels).toEqual(["volume", "mode"]);
  expect(names).toContain("vdo_recovery_percentage");
  expect(names).toContain("vdo_data_blocks_used");
});

test("the server answers for all running volumes, and for nothing else", async () => {
  const server = await MetricsServer.listen(machine.environment, { host: "127.0.0.1", port: 0 });
  const { port } = server.address;
  const get = (path: string, method = "GET") => fetch(`http://127.0.0.1:${port}${path}`, { method });
  expect(await (await get("/metrics")).text()).toContain("\nvdo_volumes_running 0\n");
  const disk = join(machine.folder, "disk");
  await writeFile(disk, "");
  await truncate(disk, 4 * 1024 ** 2);
  await machine.manager().create({ name: "v0", device: disk, settings: { attach: "none" }, force: false });
  const answer = await get("/metrics");
  expect(answer.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
  expect(await answer.text()).toContain('\nvdo_physical_blocks{volume="v0"} 1024\n');
  expect((await get("/")).status).toBe(404);

  expect((await get("/metrics", "POST")).status).toBe(405);
  await expect(MetricsServer.listen(machine.environment, { host: "127.0.0.1", port })).rejects.toThrow(/Cannot listen/);
  await server.close();
});
