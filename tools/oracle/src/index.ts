export { describeWithKernel } from "./describe.ts";
export { HOST_PROGRAMS, missingPackages, programPath } from "./host-programs.ts";
export { type GuestDisk, type GuestOptions, type GuestResult, runGuest } from "./machine.ts";
export { installHostPackages, isOracleReady, type OracleFiles, oracleFolder, setupOracle } from "./setup.ts";
