/** The parts of the page, each filled from the data. */
import type { ActivityRates, ActivitySample, Notice, VolumeHistory, VolumeSnapshot, VolumeSpace } from "../snapshot.ts";
import { drawChart } from "./chart.ts";
import { byId, html, redraw, scrolling, setText, show, svg, table } from "./dom.ts";
import { bytesText, flatValues, millisecondsText, percentText, rateText, shortNumber, timeText } from "./format.ts";
import { roundUp } from "./geometry.ts";

const MODE_TEXTS = { normal: "Normal operation", recovering: "Recovering", "read-only": "Read-only" } as const;

/** Signs beside the words, so that the badge is recognised from afar. */
const MODE_SIGNS = { normal: "✓", recovering: "↻", "read-only": "✕" } as const;

const STAGE_TEXTS = { starting: "Starting", ready: "Running", stopping: "Stopping", stopped: "Stopped" } as const;

export function showHead({ name, mode, stage, takenAt, notices }: VolumeSnapshot): void {
  setText(byId("name"), name);
  const urgent = notices[0] !== undefined && notices[0].severity !== "information" ? "(!) " : "";
  const title = `${urgent}${name}: ${mode === null ? STAGE_TEXTS[stage] : MODE_TEXTS[mode]} - VDO volume`;
  if (document.title !== title) document.title = title;
  const badge = byId("mode");
  const isServed = stage === "ready" && mode !== null;
  badge.className = `badge ${isServed ? mode : "recovering"}`;
  redraw(badge, [mode, stage], () => [
    html("span", { "aria-hidden": "true" }, `${isServed ? MODE_SIGNS[mode] : "↻"} `),
    isServed ? MODE_TEXTS[mode] : STAGE_TEXTS[stage],
  ]);
  show(badge, true);
  const taken = new Date(takenAt);
  const time = byId<HTMLTimeElement>("updated");
  time.dateTime = takenAt;
  setText(time, timeText(taken, taken));
  show(byId("updates"), true);
}

const SEVERITY_WORDS = { critical: "Critical:", warning: "Warning:", information: "Note:" } as const;

export function showNotices(notices: readonly Notice[]): void {
  const section = byId("notices");
  redraw(section, notices, () =>
    notices.map(({ severity, title, text, nextStep, commands }) =>
      html(
        "article",
        { class: `notice ${severity}` },
        html("h2", {}, html("span", { class: "severity" }, SEVERITY_WORDS[severity]), ` ${title}`),
        html("p", {}, text),
        html("p", {}, html("strong", {}, "Next step:"), ` ${nextStep}`),
        ...(commands.length === 0 ? [] : [commandList(commands)]),
      ),
    ),
  );
  show(section, notices.length > 0);
}

function commandList(commands: readonly string[]): HTMLOListElement {
  return html("ol", { class: "commands" }, ...commands.map((command) => html("li", {}, html("code", {}, command))));
}

/** Slabs are scrubbed while the volume serves; the phases before that end before it does. */
const PHASES: Readonly<Record<string, string>> = { slabs: "Reference counts of the slabs" };

export function showRecovery({ recovery }: VolumeSnapshot): void {
  show(byId("recovery"), recovery !== null);
  if (recovery === null) return;
  const { phase, done, of } = recovery;
  const words = PHASES[phase] ?? `${phase.slice(0, 1).toUpperCase()}${phase.slice(1)}`;
  const progress = byId<HTMLProgressElement>("recovery-progress");
  if (of === 0) {
    progress.removeAttribute("value");
    setText(byId("recovery-text"), words);
    return;
  }
  const percent = Math.floor((100 * Math.min(done, of)) / of);
  progress.value = percent;
  setText(byId("recovery-text"), `${words}: ${percent} % (${done} of ${of})`);
}

export function showSpace({ space }: VolumeSnapshot): void {
  show(byId("space-unknown"), space === null);
  const known = byId("space-known");
  show(known, space !== null);
  if (space === null) return;
  redraw(known, space, () => [
    html("h3", {}, `Physical: ${space.usedPercent} % in use`),
    physicalBar(space),
    html(
      "ul",
      { class: "legend" },
      legendItem("overhead", `Metadata ${bytesText(space.overheadBytes)}`),
      legendItem("data", `Data ${bytesText(space.dataBytes)}`),
      legendItem("free", `Available ${bytesText(space.availableBytes)}`),
      markItem("Warning from 80 %"),
    ),
    figures([
      ["Size", bytesText(space.physicalBytes), "physical-size"],
      ["Used", bytesText(space.usedBytes), "physical-used"],
      ["Available", bytesText(space.availableBytes), "physical-available"],
    ]),
    html("h3", {}, "Logical"),
    bar([["data", space.logicalUsedBytes / space.logicalBytes]]),
    figures([
      ["Size", bytesText(space.logicalBytes), "logical-size"],
      ["Used", bytesText(space.logicalUsedBytes), "logical-used"],
      ["Space saving", percentText(space.savingPercent), "saving"],
    ]),
  ]);
}

function physicalBar({ overheadBytes, dataBytes, physicalBytes }: VolumeSpace): SVGSVGElement {
  const drawing = bar([
    ["overhead", overheadBytes / physicalBytes],
    ["data", dataBytes / physicalBytes],
  ]);
  drawing.append(svg("line", { x1: "80%", x2: "80%", y1: 0, y2: "100%", class: "mark" }));
  return drawing;
}

/** Parts of the whole from the left. The figures beside it say the same. */
function bar(parts: readonly (readonly [kind: string, share: number])[]): SVGSVGElement {
  const drawing = svg("svg", { class: "bar", height: 22, "aria-hidden": "true" }, hatching());
  let x = 0;
  for (const [kind, share] of parts) {
    const width = Math.min(1 - x, Math.max(0, share));
    drawing.append(svg("rect", { x: `${100 * x}%`, width: `${100 * width}%`, height: "100%", class: `part-${kind}` }));
    if (kind === "overhead") {
      drawing.append(svg("rect", { x: `${100 * x}%`, width: `${100 * width}%`, height: "100%", fill: "url(#hatch)" }));
    }
    x += width;
  }
  return drawing;
}

function hatching(): SVGDefsElement {
  const stripe = svg("path", { d: "M0 8L8 0M-2 2L2 -2M6 10L10 6", class: "hatch" });
  const pattern = svg("pattern", { id: "hatch", width: 8, height: 8, patternUnits: "userSpaceOnUse" }, stripe);
  return svg("defs", {}, pattern);
}

function legendItem(kind: string, text: string): HTMLLIElement {
  const key = svg("svg", { width: 14, height: 14, class: "key", "aria-hidden": "true" });
  key.append(svg("rect", { width: 14, height: 14, class: `part-${kind}` }));
  if (kind === "overhead") key.append(svg("rect", { width: 14, height: 14, fill: "url(#hatch)" }));
  return html("li", {}, key, text);
}

function markItem(text: string): HTMLLIElement {
  const line = svg("line", { x1: 7, x2: 7, y1: 0, y2: 14, class: "mark" });
  return html("li", {}, svg("svg", { width: 14, height: 14, "aria-hidden": "true" }, line), text);
}

function figures(rows: readonly (readonly [name: string, value: string, id: string])[]): HTMLDListElement {
  return html(
    "dl",
    { class: "figures" },
    ...rows.map(([name, value, id]) => html("div", {}, html("dt", {}, name), html("dd", { id }, value))),
  );
}

/** Switches whose change is under way; they show what was asked for. */
export type Pending = ReadonlyMap<string, boolean>;

export function showSwitches(snapshot: VolumeSnapshot, pending: Pending): void {
  const { compression, deduplication, indexState, isServedReadOnly } = snapshot;
  const canChange = snapshot.stage === "ready" && !isServedReadOnly && snapshot.mode !== "read-only";
  for (const [name, state] of [
    ["compression", compression],
    ["deduplication", deduplication],
  ] as const) {
    const button = byId<HTMLButtonElement>(name);
    const wanted = pending.get(name);
    const isOn = wanted ?? state === true;
    button.setAttribute("aria-checked", String(isOn));
    button.setAttribute("aria-busy", String(wanted !== undefined));
    button.disabled = !canChange;
    setText(button, state === null ? "unknown" : isOn ? "on" : "off");
  }
  setText(byId("index-state"), indexState === null ? "" : `Index: ${INDEX_TEXTS[indexState] ?? indexState}`);
}

const INDEX_TEXTS: Readonly<Record<string, string>> = {
  online: "online, duplicates are found",
  opening: "opening, duplicates are not found yet",
  closing: "closing",
  closed: "closed",
  offline: "offline",
  suspended: "suspended",
  error: "failed, duplicates are not found",
};

const OPERATIONS = { read: "Read", write: "Write", flush: "Flush", discard: "Discard" } as const;

export function showActivity(activity: ActivityRates | null): void {
  const host = byId("now-table");
  redraw(host, activity ?? "none", () => {
    if (activity === null) return [html("p", {}, "Nothing measured yet.")];
    const rows = Object.entries(OPERATIONS).map(([key, word]) => {
      const { requestsPerSecond, bytesPerSecond, milliseconds } = activity[key as keyof typeof OPERATIONS];
      return [word, shortNumber(requestsPerSecond), rateText(bytesPerSecond), millisecondsText(milliseconds)];
    });
    const title = "Requests of clients, means over two seconds";
    return [scrolling(title, table(title, ["Kind", "Per second", "Bytes", "Latency"], rows))];
  });
}

export function showVolume(snapshot: VolumeSnapshot): void {
  const { device, attachedAs, uuid, writePolicy, startedAt, clients, softwareVersion, statistics } = snapshot;
  const started = startedAt === null ? "not yet" : timeText(new Date(startedAt), new Date(snapshot.takenAt));
  const recoveries = (statistics as { completeRecoveries?: number } | null)?.completeRecoveries;
  const rows: readonly (readonly [string, string])[] = [
    ["Storage", device],
    ["Attached as", attachedAs ?? "not yet"],
    ["Clients", String(clients)],
    ["Write policy", writePolicy],
    ["Started", started],
    ["Recoveries", recoveries === undefined ? "not known yet" : String(recoveries)],
    ["UUID", uuid ?? "not known yet"],
    ["Software", `vdo ${softwareVersion}`],
  ];
  redraw(byId("volume"), rows, () =>
    rows.map(([name, value]) => html("div", {}, html("dt", {}, name), html("dd", {}, value))),
  );
}

export function showStatistics({ statistics }: VolumeSnapshot): void {
  const details = byId<HTMLDetailsElement>("statistics");
  if (!details.open || statistics === null) return;
  redraw(byId("statistics-table"), statistics, () => [
    scrolling("All statistics", table("All statistics, by their names", ["Name", "Value"], flatValues(statistics))),
  ]);
}

export function showHistory({ space, activity }: VolumeHistory): void {
  drawChart(byId("savings-chart"), {
    title: "Space saving",
    series: [{ name: "Space saving", points: space.samples.map(({ at, savingPercent: value }) => ({ at, value })) }],
    top: 100,
    text: (value) => `${Math.round(value)} %`,
    empty: "No savings were measured yet. They are while the volume is in normal operation and holds data.",
  });
  const { samples } = activity;
  const series = (name: string, value: (sample: ActivitySample) => number | null) => ({
    name,
    points: samples.map((sample) => ({ at: sample.at, value: value(sample) })),
  });
  const throughput = [
    series("Read", ({ read }) => read.bytesPerSecond),
    series("Write", ({ write }) => write.bytesPerSecond),
  ];
  drawChart(byId("throughput-chart"), {
    title: "Throughput",
    series: throughput,
    top: roundUp(
      Math.max(1024, ...samples.flatMap((one) => [one.read.bytesPerSecond, one.write.bytesPerSecond])),
      1024,
    ),
    text: rateText,
    empty: "Nothing measured yet.",
  });
  const latencies = samples.flatMap(({ read, write }) => [read.milliseconds ?? 0, write.milliseconds ?? 0]);
  drawChart(byId("latency-chart"), {
    title: "Latency",
    series: [series("Read", ({ read }) => read.milliseconds), series("Write", ({ write }) => write.milliseconds)],
    top: roundUp(Math.max(0.1, ...latencies)),
    text: millisecondsText,
    empty: "No client asked for anything in the last ten minutes.",
  });
}
