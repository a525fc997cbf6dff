/** Operations on a device with a volume that is not running. */
export { type FormatOptions, type FormatResult, format } from "./format.ts";
export { type FormatReport, type PlanOptions, planFormat } from "./format-plan.ts";
export { findSignatures, type Signature } from "./signatures.ts";
export { readVolumeInfo, setVolumeUuid, type VolumeInfo } from "./volume-info.ts";
