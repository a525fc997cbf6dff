export { type HistoryCounts, runHistory } from "./history.ts";
