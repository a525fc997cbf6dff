/** The Grafana dashboard, made from a table of panels: import share/grafana/vdo-dashboard.json and choose the data source. */

interface Panel {
  title: string;
  description: string;
  kind: "stat" | "gauge" | "timeseries" | "state-timeline";
  /** Grafana's name of the unit. */
  unit: string;
  /** Each with the text of its legend. */
  queries: readonly (readonly [expression: string, legend: string])[];
  /** Columns of 24. */
  width: number;
  max?: number;
  /** Values from which on the colour is a warning and an alarm. */
  thresholds?: readonly [warning: number, alarm: number];
}

const of = (metric: string, ...matchers: string[]): string =>
  `${metric}{${['volume=~"$volume"', ...matchers].join(",")}}`;
const rate = (metric: string, ...matchers: string[]): string => `rate(${of(metric, ...matchers)}[$__rate_interval])`;
const operation = (name: string): string => `operation="${name}"`;
const latency = (name: string): string =>
  `${rate("vdo_client_seconds_total", operation(name))} / ${rate("vdo_client_requests_total", operation(name))}`;

const SPACE: readonly Panel[] = [
  {
    title: "Physical space in use",
    description: "At 80 % and each 5 % more the volume warns; at 100 % writes of new data fail.",
    kind: "gauge",
    unit: "percentunit",
    queries: [[of("vdo_used_ratio"), "{{volume}}"]],
    width: 8,
    max: 1,
    thresholds: [0.8, 0.95],
  },
  {
    title: "Space saving",
    description: "Share of the used logical blocks that needed no block of their own.",
    kind: "gauge",
    unit: "percentunit",
    queries: [[of("vdo_saving_ratio"), "{{volume}}"]],
    width: 8,
    max: 1,
  },
  {
    title: "Operating mode",
    description: "A volume that is read-only refuses writes until it is rebuilt: vdo forceRebuild.",
    kind: "state-timeline",
    unit: "none",
    queries: [[`${of("vdo_mode")} == 1`, "{{volume}}: {{mode}}"]],
    width: 8,
  },
  {
    title: "Space over time",
    description: "Physical blocks in use and in all, and logical blocks in use, in bytes.",
    kind: "timeseries",
    unit: "bytes",
    queries: [
      [`(${of("vdo_data_blocks_used")} + ${of("vdo_overhead_blocks_used")}) * 4096`, "{{volume}} physical, used"],
      [`${of("vdo_physical_blocks")} * 4096`, "{{volume}} physical, all"],
      [`${of("vdo_logical_blocks_used")} * 4096`, "{{volume}} logical, used"],
    ],
    width: 12,
  },
  {
    title: "Savings over time",
    description: "Share of the used logical blocks that needed no block of their own.",
    kind: "timeseries",
    unit: "percentunit",
    queries: [[of("vdo_saving_ratio"), "{{volume}}"]],
    width: 12,
    max: 1,
  },
];

const CLIENTS: readonly Panel[] = [
  {
    title: "Throughput of clients",
    description: "Bytes that clients read and wrote, each second.",
    kind: "timeseries",
    unit: "Bps",
    queries: [
      [rate("vdo_client_bytes_total", operation("read")), "{{volume}} read"],
      [rate("vdo_client_bytes_total", operation("write")), "{{volume}} write"],
    ],
    width: 8,
  },
  {
    title: "Requests of clients",
    description: "Requests that were answered, each second.",
    kind: "timeseries",
    unit: "reqps",
    queries: [[rate("vdo_client_requests_total"), "{{volume}} {{operation}}"]],
    width: 8,
  },
  {
    title: "Latency",
    description: "Mean time from a request to its answer.",
    kind: "timeseries",
    unit: "s",
    queries: [
      [latency("read"), "{{volume}} read"],
      [latency("write"), "{{volume}} write"],
      [latency("flush"), "{{volume}} flush"],
    ],
    width: 8,
  },
];

const ENGINE: readonly Panel[] = [
  {
    title: "Deduplication advice",
    description: "Answers of the index that were right, that were stale, and queries that were given up.",
    kind: "timeseries",
    unit: "ops",
    queries: [
      [rate("vdo_hash_lock_dedupe_advice_valid"), "{{volume}} valid"],
      [rate("vdo_hash_lock_dedupe_advice_stale"), "{{volume}} stale"],
      [rate("vdo_dedupe_advice_timeouts"), "{{volume}} timeouts"],
    ],
    width: 8,
  },
  {
    title: "Index",
    description: "State of the deduplication index.",
    kind: "state-timeline",
    unit: "none",
    queries: [[`${of("vdo_index_state")} == 1`, "{{volume}}: {{state}}"]],
    width: 8,
  },
  {
    title: "Compression",
    description: "Compressed blocks written, and the fragments in them.",
    kind: "timeseries",
    unit: "ops",
    queries: [
      [rate("vdo_packer_compressed_blocks_written"), "{{volume}} blocks"],
      [rate("vdo_packer_compressed_fragments_written"), "{{volume}} fragments"],
    ],
    width: 8,
  },
  {
    title: "Writes to the storage",
    description: "Writes of data and of metadata to the storage, and writes that came in.",
    kind: "timeseries",
    unit: "iops",
    queries: [
      [rate("vdo_bios_in_write"), "{{volume}} in"],
      [rate("vdo_bios_out_write"), "{{volume}} data"],
      [rate("vdo_bios_meta_write"), "{{volume}} metadata"],
    ],
    width: 8,
  },
  {
    title: "Block map cache",
    description: "Share of the page requests that the cache answered.",
    kind: "timeseries",
    unit: "percentunit",
    queries: [
      [
        `${rate("vdo_block_map_found_in_cache")} / (${rate("vdo_block_map_found_in_cache")} + ${rate("vdo_block_map_fetch_required")})`,
        "{{volume}}",
      ],
    ],
    width: 8,
    max: 1,
  },
  {
    title: "Errors",
    description: "Requests that failed for want of space or because the volume is read-only.",
    kind: "timeseries",
    unit: "short",
    queries: [
      [`increase(${of("vdo_errors_no_space_error_count")}[$__rate_interval])`, "{{volume}} no space"],
      [`increase(${of("vdo_errors_read_only_error_count")}[$__rate_interval])`, "{{volume}} read-only"],
    ],
    width: 8,
  },
];

const HEIGHT = 8;
const DATA_SOURCE = { type: "prometheus", uid: "$" + "{datasource}" };

/** Thresholds are steps of colours; the first has no value. */
function thresholdSteps(thresholds: Panel["thresholds"]): object[] {
  const [warning, alarm] = thresholds ?? [];
  const steps: object[] = [{ color: "green", value: null }];
  if (warning !== undefined) steps.push({ color: "orange", value: warning }, { color: "red", value: alarm });
  return steps;
}

function panelJson(panel: Panel, id: number, gridPos: object): object {
  const { title, description, kind, unit, queries, max, thresholds } = panel;
  return {
    id,
    type: kind,
    title,
    description,
    datasource: DATA_SOURCE,
    gridPos,
    fieldConfig: {
      defaults: {
        unit,
        ...(kind === "state-timeline" ? {} : { min: 0 }),
        ...(max === undefined ? {} : { max }),
        thresholds: { mode: "absolute", steps: thresholdSteps(thresholds) },
      },
      overrides: [],
    },
    options: {},
    targets: queries.map(([expr, legendFormat], index) => ({
      refId: String.fromCharCode("A".charCodeAt(0) + index),
      datasource: DATA_SOURCE,
      expr,
      legendFormat,
    })),
  };
}

/** Panels from left to right in rows of 24 columns. */
function placed(panels: readonly Panel[]): object[] {
  let x = 0;
  let y = 0;
  return panels.map((panel, index) => {
    if (x + panel.width > 24) {
      x = 0;
      y += HEIGHT;
    }
    const json = panelJson(panel, index + 1, { x, y, w: panel.width, h: HEIGHT });
    x += panel.width;
    return json;
  });
}

/** Choices above the panels: where the data is, and which volumes are shown. */
const VARIABLES: readonly object[] = [
  { name: "datasource", label: "Data source", type: "datasource", query: "prometheus" },
  {
    name: "volume",
    label: "Volume",
    type: "query",
    datasource: DATA_SOURCE,
    query: "label_values(vdo_mode, volume)",
    refresh: 2,
    includeAll: true,
    multi: true,
    allValue: ".*",
    current: { text: "All", value: "$__all" },
  },
];

/** Every expression of the dashboard. */
export function dashboardExpressions(): string[] {
  return [...SPACE, ...CLIENTS, ...ENGINE].flatMap(({ queries }) => queries.map(([expression]) => expression));
}

/** The dashboard as JSON. */
export function grafanaDashboard(): string {
  const dashboard = {
    uid: "vdo-volumes",
    title: "VDO volumes",
    tags: ["vdo", "storage"],
    timezone: "browser",
    schemaVersion: 39,
    refresh: "30s",
    time: { from: "now-6h", to: "now" },
    templating: { list: VARIABLES },
    panels: placed([...SPACE, ...CLIENTS, ...ENGINE]),
  };
  return `${JSON.stringify(dashboard, null, 2)}\n`;
}
