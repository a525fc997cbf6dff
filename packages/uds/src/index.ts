export type { RebuildProgress } from "./engine/rebuild.ts";
export {
  type ChapterGeometry,
  type IndexConfig,
  type IndexGeometry,
  indexGeometry,
  memoryFromStored,
  memoryToStored,
  type SubIndexGeometry,
} from "./geometry.ts";
export { type IndexMemory, indexMemory } from "./index-memory.ts";
export { loadRecordNamer, type RecordNamer } from "./record-name.ts";
export { RecordLocation, UdsOperation, UdsRequest } from "./request.ts";
export type { BatchResult } from "./request-batch.ts";
export type { UdsStatistics } from "./statistics.ts";
export { UdsIndex, type UdsIndexOptions, type UdsState } from "./uds-index.ts";
