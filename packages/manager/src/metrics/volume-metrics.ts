/**
 * Statistics of volumes as Prometheus metrics. Names are stable: the places in the statistics object in snake case behind
 * `vdo_`, so `biosIn.write` is `vdo_bios_in_write`; every metric has the label `volume`. Counters count from the start of the
 * volume, and begin anew with each.
 */
import { Counter, Gauge, Registry } from "prom-client";
import type { VolumeStatistics } from "../engine.ts";

export interface MeasuredVolume {
  name: string;
  statistics: VolumeStatistics;
}

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

const MODES = ["normal", "recovering", "read-only"] as const;

/** The metrics of all volumes in the text format of Prometheus. */
export function metricsText(volumes: readonly MeasuredVolume[], version: string): Promise<string> {
  const registry = new Registry();
  const registers = [registry];
  new Gauge({ name: "vdo_exporter_info", help: "Version of these programs.", labelNames: ["version"], registers })
    .labels(version)
    .set(1);
  new Gauge({ name: "vdo_volumes_running", help: "Volumes that are served.", registers }).set(volumes.length);
  const mode = new Gauge({
    name: "vdo_mode",
    help: "1 for the operating mode that the volume is in.",
    labelNames: ["volume", "mode"],
    registers,
  });
  const share = new Gauge({
    name: "vdo_used_ratio",
    help: "Share of the physical blocks that is in use, data and metadata.",
    labelNames: ["volume"],
    registers,
  });
  const metrics = new Map<string, Gauge | Counter>();
  for (const { name: volume, statistics } of volumes) {
    for (const one of MODES) mode.labels(volume, one).set(statistics.mode === one ? 1 : 0);
    share.labels(volume).set((statistics.dataBlocksUsed + statistics.overheadBlocksUsed) / statistics.physicalBlocks);
    for (const [name, value] of numbersOf(statistics, "vdo")) {
      const metric = metrics.get(name) ?? newMetric(name, registry);
      metrics.set(name, metric);
      metric.inc({ volume }, value);
    }
  }
  return registry.metrics();
}

function newMetric(name: string, registry: Registry): Gauge | Counter {
  const options = {
    name,
    help: `${name.slice("vdo_".length).replaceAll("_", " ")} of the volume.`,
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

/** Every number and flag with its metric name, in the order of the object. */
function* numbersOf(values: object, prefix: string): Generator<[name: string, value: number]> {
  for (const [key, value] of Object.entries(values) as [string, unknown][]) {
    const name = `${prefix}_${snakeCase(key)}`;
    if (typeof value === "number") yield [name, value];
    else if (typeof value === "boolean") yield [name, value ? 1 : 0];
    else if (typeof value === "object" && value !== null) yield* numbersOf(value, name);
  }
}

/** `invalidAdvicePBNCount` as `invalid_advice_pbn_count`, `maxVIOs` as `max_vios`. */
function snakeCase(key: string): string {
  return key
    .replaceAll("VIOs", "Vios")
    .replaceAll("PBN", "Pbn")
    .replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
