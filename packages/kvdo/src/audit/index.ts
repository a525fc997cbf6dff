export type { AuditLine, AuditOptions, VolumeAudit } from "./audit-report.ts";
export { auditVolume } from "./audit-volume.ts";
export { ReferenceTable, TREE_PAGE } from "./reference-table.ts";
