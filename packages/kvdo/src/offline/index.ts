export { MetadataDump } from "./metadata-debug.ts";
export { type DumpedPages, dumpMetadata } from "./metadata-dump.ts";
export { type MetadataRegion, metadataRegions } from "./metadata-regions.ts";
export { findGeometries, type GeometryCandidate, writeGeometry } from "./regenerate-geometry.ts";
export { type EstimatorOptions, type SavingsEstimate, SavingsEstimator } from "./savings-estimator.ts";
export { type MapEntry, StoppedVolume } from "./stopped-volume.ts";
