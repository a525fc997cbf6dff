/** Line charts as SVG, each with a summary for screen readers and the same figures as a table. */
import { html, redraw, scrolling, svg, table } from "./dom.ts";
import { durationText, timeText } from "./format.ts";
import { type Frame, linePath, lonePoints, type Point, Scale, thinned } from "./geometry.ts";

export interface Series {
  name: string;
  points: readonly Point[];
}

export interface ChartOptions {
  /** What the chart shows, for the table and the summary. */
  title: string;
  /** Two lines at most, told apart by their dashes and names besides their colours. */
  series: readonly Series[];
  /** Value of the upper edge. */
  top: number;
  text: (value: number) => string;
  /** Said when nothing was measured. */
  empty: string;
}

/** Of a chart as wide as its place: a unit is a pixel, so the text has its size on every screen. */
const FRAME: Frame = { width: 600, height: 200, left: 88, right: 12, top: 12, bottom: 26 };
const WIDTH_MIN = 230;

/** Lines across the chart, besides the one at zero. */
const GRID_LINES = 4;

/** Rows of the table: more would say no more. */
const TABLE_ROWS = 20;

/** Points of a line: as many as there are pixels for. */
const LINE_POINTS = 300;

/** Draws into `host`, which keeps an opened table open. */
export function drawChart(host: HTMLElement, options: ChartOptions): void {
  const frame = { ...FRAME, width: Math.max(WIDTH_MIN, host.clientWidth) };
  redraw(host, [options, frame], () => {
    const wasOpen = host.querySelector("details")?.open === true;
    const measured = options.series.some(({ points }) => points.some(({ value }) => value !== null));
    return measured ? figureOf(options, frame, wasOpen) : [html("p", { class: "hint" }, options.empty)];
  });
}

function figureOf(options: ChartOptions, frame: Frame, isTableOpen: boolean): Node[] {
  const { title, series } = options;
  const legend = series.map(({ name, points }, index) =>
    html("li", {}, keyLine(index), `${name}: ${lastText(points, options.text)}`),
  );
  const details = html("details", {}, html("summary", {}, `${title} as a table`), tableOf(options));
  details.open = isTableOpen;
  return [
    html("figure", {}, svgOf(options, frame), html("figcaption", {}, html("ul", { class: "legend" }, ...legend))),
    details,
  ];
}

function keyLine(index: number): SVGSVGElement {
  const line = svg("path", { d: "M0 5h28", class: `line series-${index}` });
  return svg("svg", { viewBox: "0 0 28 10", width: 28, height: 10, "aria-hidden": "true" }, line);
}

function svgOf(options: ChartOptions, frame: Frame): SVGSVGElement {
  const { series, top, text } = options;
  const times = series.flatMap(({ points }) => points.map(({ at }) => at));
  const scale = new Scale(frame, { begin: Math.min(...times), end: Math.max(...times), top });
  const { width, height, left, right, bottom } = frame;
  const grid = Array.from({ length: GRID_LINES + 1 }, (_none, line) => (top * line) / GRID_LINES).flatMap((value) => [
    svg("path", { d: `M${left} ${scale.y(value)}H${width - right}`, class: "grid-line" }),
    svg("text", { x: left - 8, y: scale.y(value) + 4, "text-anchor": "end" }, text(value)),
  ]);
  const day = new Date(scale.end * 1000);
  const ends = [
    svg(
      "text",
      { x: left, y: height - bottom + 18, "text-anchor": "start" },
      timeText(new Date(scale.begin * 1000), day),
    ),
    svg("text", { x: width - right, y: height - bottom + 18, "text-anchor": "end" }, timeText(day, day)),
  ];
  const lines = series.flatMap(({ points }, index) => {
    const shown = thinned(points, LINE_POINTS);
    const marks = lonePoints(shown).map(({ at, value }) => pointMark(scale.x(at), scale.y(value), index));
    return [svg("path", { d: linePath(shown, scale), class: `line series-${index}` }), ...marks];
  });
  const attributes = { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": summaryOf(options, scale) };
  return svg("svg", attributes, ...grid, ...ends, ...lines);
}

/** A disc for the first line, a square for the second. */
function pointMark(x: number, y: number, index: number): SVGElement {
  const name = `point series-${index}`;
  if (index === 0) return svg("circle", { cx: x, cy: y, r: 4, class: name });
  return svg("rect", { x: x - 3.5, y: y - 3.5, width: 7, height: 7, class: name });
}

function summaryOf({ title, series, text }: ChartOptions, { begin, end }: Scale): string {
  const parts = series.map(({ name, points }) => {
    const values = points.flatMap(({ value }) => (value === null ? [] : [value]));
    if (values.length === 0) return `${name}: nothing measured`;
    const last = lastText(points, text);
    return `${name}: ${last.startsWith("last") ? last : `now ${last}`}, between ${text(Math.min(...values))} and ${text(Math.max(...values))}`;
  });
  return `${title} over ${durationText(end - begin)}. ${parts.join(". ")}.`;
}

/** The newest value; "last 5 ms" when nothing was measured after it. */
function lastText(points: readonly Point[], text: ChartOptions["text"]): string {
  const value = points.findLast((point) => point.value !== null)?.value;
  if (value === undefined || value === null) return "nothing measured";
  return points.at(-1)?.value === null ? `last ${text(value)}` : text(value);
}

function tableOf({ title, series, text }: ChartOptions): HTMLElement {
  const [first] = series;
  const points = first?.points ?? [];
  const day = new Date((points.at(-1)?.at ?? 0) * 1000);
  const places = thinned([...points.keys()], TABLE_ROWS).reverse();
  const rows = places.map((place) => [
    timeText(new Date((points[place]?.at ?? 0) * 1000), day),
    ...series.map((one) => {
      const value = one.points[place]?.value ?? null;
      return value === null ? "none" : text(value);
    }),
  ]);
  const content = table(title, ["Time", ...series.map(({ name }) => name)], rows);
  return scrolling(`${title} as a table`, content);
}
