export { blockDeviceCompliance, type ComplianceOptions, type TestRunner } from "./compliance.ts";
export { type FaultRule, FaultyDevice, type FaultyOperation } from "./faulty-device.ts";
export { type RecordedOperation, RecordingDevice } from "./recording-device.ts";
export { describeWith, findProgram, type MissingProgram, recordGap, requirePrograms } from "./requirements.ts";
export { SimulatedDisk, type SimulatedDiskOptions } from "./simulated-disk.ts";
export { SECTOR_BYTES } from "./write-record.ts";
