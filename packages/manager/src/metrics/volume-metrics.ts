/**
 * Volumes as Prometheus metrics. Names are stable. Those of the statistics are their places in the statistics object in
 * snake case behind `vdo_`, so `biosIn.write` is `vdo_bios_in_write`; what `vdostats` prints as N/A is left out. Every
 * metric of a volume has the label `volume`. Counters count from the start of the volume, and begin anew with each.
 */
import { emptyStatistics, NOT_AVAILABLE, STATISTIC_ENTRIES, type StatisticEntry, statisticValue } from "@vdo/kvdo";
import { Counter, Gauge, Registry } from "prom-client";
import { CLIENT_OPERATIONS, emptyActivity } from "../daemon/measured-device.ts";
import type { VolumeStatistics } from "../engine.ts";
import type { MeasuredVolume } from "../stats/volumes.ts";

/** Values that may fall, besides all numbers that are not in a group. */
const GAUGES: ReadonlySet<string> = new Set([
  "vdo_block_map_cache_size",
  "vdo_packer_compressed_fragments_in_packer",
  "vdo_allocator_slab_count",
  "vdo_block_map_dirty_pages",
  "vdo_block_map_clean_pages",
  "vdo_block_map_free_pages",
  "vdo_block_map_failed_pages",
  "vdo_block_map_incoming_pages",
  "vdo_block_map_outgoing_pages",
  "vdo_hash_lock_curr_dedupe_queries",
  "vdo_memory_usage_bytes_used",
  "vdo_memory_usage_peak_bytes_used",
  "vdo_index_entries_indexed",
]);

/** Numbers in no group that only rise. */
const COUNTERS: ReadonlySet<string> = new Set(["vdo_dedupe_advice_timeouts", "vdo_flush_out"]);

/** Units that the labels of `vdostats` do not tell. */
const UNITS: Readonly<Record<string, string>> = {
  vdo_data_blocks_used: "blocks of 4096 bytes",
  vdo_overhead_blocks_used: "blocks of 4096 bytes",
  vdo_logical_blocks_used: "blocks of 4096 bytes",
  vdo_physical_blocks: "blocks of 4096 bytes",
  vdo_logical_blocks: "blocks of 4096 bytes",
  vdo_block_map_cache_size: "bytes",
  vdo_block_size: "bytes",
  vdo_logical_block_size: "bytes: 512 with 512 byte emulation, else 4096",
  vdo_recovery_percentage: "percent of the slabs",
};

const MODES = ["normal", "recovering", "read-only"] as const;
const INDEX_STATES = ["online", "opening", "closing", "closed", "offline", "suspended", "error", "unknown"] as const;

/** The metrics of all volumes in the text format of Prometheus. */
export function metricsText(volumes: readonly MeasuredVolume[], version: string): Promise<string> {
  return metricsRegistry(volumes, version).metrics();
}

/** Every metric that there is, for documents and for checks of rules and dashboards. */
export async function metricsCatalogue(): Promise<{ name: string; type: string; help: string; labels: string[] }[]> {
  const statistics = { ...emptyStatistics(), physicalBlocks: 1, logicalBlocksUsed: 1 };
  const volume = { name: "v", operand: "v", indexState: "online", compression: true, activity: emptyActivity() };
  // What is printed while a volume is normal and what only while it recovers exclude each other.
  const all = new Map<string, { name: string; type: string; help: string; labels: string[] }>();
  for (const inRecoveryMode of [false, true]) {
    const registry = metricsRegistry([{ ...volume, statistics: { ...statistics, inRecoveryMode } }], "0");
    for (const { name, type, help, values } of await registry.getMetricsAsJSON()) {
      const labels = values[0] === undefined ? [] : Object.keys(values[0].labels);
      if (!all.has(name)) all.set(name, { name, type: String(type), help, labels });
    }
  }
  return [...all.values()];
}

function metricsRegistry(volumes: readonly MeasuredVolume[], version: string): Registry {
  const registry = new Registry();
  const registers = [registry];
  new Gauge({ name: "vdo_exporter_info", help: "Version of these programs.", labelNames: ["version"], registers })
    .labels(version)
    .set(1);
  new Gauge({ name: "vdo_volumes_running", help: "Volumes that are served.", registers }).set(volumes.length);
  addStates(volumes, registry);
  addActivity(volumes, registry);
  const metrics = new Map<string, Gauge | Counter>();
  for (const { name: volume, statistics } of volumes) {
    for (const [path, value] of numbersOf(statistics, "")) {
      const entry = ENTRY_OF.get(path);
      if (entry !== undefined && statisticValue(entry, statistics) === NOT_AVAILABLE) continue;
      const metric = metrics.get(path) ?? newMetric(path, entry, registry);
      metrics.set(path, metric);
      metric.inc({ volume }, value);
    }
  }
  return registry;
}

/** Modes and switches, and the two shares that everybody wants to see. */
function addStates(volumes: readonly MeasuredVolume[], registry: Registry): void {
  const gauge = (name: string, help: string, ...labels: string[]) =>
    new Gauge({ name, help, labelNames: ["volume", ...labels], registers: [registry] });
  const mode = gauge("vdo_mode", "1 for the operating mode that the volume is in, else 0.", "mode");
  const index = gauge("vdo_index_state", "1 for the state that the deduplication index is in, else 0.", "state");
  const compression = gauge("vdo_compression_enabled", "1 when new data is compressed, else 0.");
  const used = gauge("vdo_used_ratio", "Share of the physical blocks that is in use, data and metadata, 0 to 1.");
  const saving = gauge(
    "vdo_saving_ratio",
    "Share of the used logical blocks that needed no block of their own, 0 to 1.",
  );
  for (const { name: volume, statistics, indexState, compression: compresses } of volumes) {
    for (const one of MODES) mode.labels(volume, one).set(statistics.mode === one ? 1 : 0);
    for (const one of INDEX_STATES) index.labels(volume, one).set(indexState === one ? 1 : 0);
    compression.labels(volume).set(compresses ? 1 : 0);
    const { dataBlocksUsed: data, logicalBlocksUsed: logical, overheadBlocksUsed: overhead } = statistics;
    if (statistics.inRecoveryMode || statistics.mode === "read-only") continue;
    used.labels(volume).set((data + overhead) / statistics.physicalBlocks);
    if (logical > 0 && data <= logical) saving.labels(volume).set((logical - data) / logical);
  }
}

/** What clients asked for. */
function addActivity(volumes: readonly MeasuredVolume[], registry: Registry): void {
  const counter = (name: string, help: string) =>
    new Counter({ name, help, labelNames: ["volume", "operation"], registers: [registry] });
  const requests = counter("vdo_client_requests_total", "Requests of clients that were answered.");
  const bytes = counter("vdo_client_bytes_total", "Bytes of the requests of clients that were answered.");
  const seconds = counter("vdo_client_seconds_total", "Sum of the times from request to answer, in seconds.");
  for (const { name: volume, activity } of volumes) {
    for (const operation of activity === undefined ? [] : CLIENT_OPERATIONS) {
      const count = (activity as NonNullable<typeof activity>)[operation];
      requests.labels(volume, operation).inc(count.requests);
      bytes.labels(volume, operation).inc(count.bytes);
      seconds.labels(volume, operation).inc(count.seconds);
    }
  }
}

const ENTRY_OF: ReadonlyMap<string, StatisticEntry> = new Map(STATISTIC_ENTRIES.map((entry) => [entry.path, entry]));

function newMetric(path: string, entry: StatisticEntry | undefined, registry: Registry): Gauge | Counter {
  const name = metricName(path);
  const words = entry?.label ?? name.slice("vdo_".length).replaceAll("_", " ");
  const unit = UNITS[name];
  const options = {
    name,
    help: `${words.slice(0, 1).toUpperCase()}${words.slice(1)}${unit === undefined ? "" : `, ${unit}`}.`,
    labelNames: ["volume"],
    registers: [registry],
  };
  return isGauge(name) ? new Gauge(options) : new Counter(options);
}

/** In groups most values count up; outside of them most are sizes and states. */
function isGauge(name: string): boolean {
  if (GAUGES.has(name) || name.startsWith("vdo_bios_in_progress_")) return true;
  return !COUNTERS.has(name) && !GROUPS.some((group) => name.startsWith(group));
}

const GROUPS: readonly string[] = [
  ...["allocator", "bios", "block_map", "errors", "hash_lock", "index", "journal", "memory_usage", "packer"],
  ...["ref_counts", "slab_journal", "slab_summary"],
].map((group) => `vdo_${group}_`);

/** Every number and flag with its path, in the order of the object. */
function* numbersOf(values: VolumeStatistics | object, prefix: string): Generator<[path: string, value: number]> {
  for (const [key, value] of Object.entries(values) as [string, unknown][]) {
    const path = `${prefix}${key}`;
    if (typeof value === "number") yield [path, value];
    else if (typeof value === "boolean") yield [path, value ? 1 : 0];
    else if (typeof value === "object" && value !== null) yield* numbersOf(value, `${path}.`);
  }
}

/** `errors.invalidAdvicePBNCount` as `vdo_errors_invalid_advice_pbn_count`, `maxVIOs` as `vdo_max_vios`. */
function metricName(path: string): string {
  const words = path
    .replaceAll("VIOs", "Vios")
    .replaceAll("PBN", "Pbn")
    .replaceAll(".", "_")
    .replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  return `vdo_${words}`;
}
