/** Parsed options as the manager takes them. */
import type { CreateOptions, GivenSettings, Selection } from "@vdo/manager";

/** Parsed options by name, without their dashes. */
export type Arguments = Readonly<Record<string, unknown>>;

export function selection(args: Arguments): Selection {
  return typeof args["name"] === "string" ? { name: args["name"] } : { all: true };
}

/** Settings whose names differ from their options'. */
export function settingsOf(args: Arguments): GivenSettings {
  const emulate = args["emulate512"];
  const given = {
    activated: args["activate"],
    attach: args["attach"],
    blockMapCacheSize: args["blockMapCacheSize"],
    blockMapPeriod: args["blockMapPeriod"],
    compression: args["compression"],
    deduplication: args["deduplication"],
    discardStorage: args["discardStorage"],
    indexMemory: args["indexMem"],
    indexSparse: args["sparseIndex"],
    logicalBlockSize: emulate === undefined ? undefined : emulate === "enabled" ? 512 : 4096,
    logicalSize: args["vdoLogicalSize"],
    onFull: args["onFull"],
    maxDiscardSize: args["maxDiscardSize"],
    skipHeader: args["skipHeader"],
    slabSize: args["vdoSlabSize"],
    statusPage: args["statusPage"],
    uuid: args["uuid"],
    writePolicy: args["writePolicy"],
    ackThreads: args["vdoAckThreads"],
    bioRotationInterval: args["vdoBioRotationInterval"],
    bioThreads: args["vdoBioThreads"],
    cpuThreads: args["vdoCpuThreads"],
    hashZoneThreads: args["vdoHashZoneThreads"],
    logicalThreads: args["vdoLogicalThreads"],
    physicalThreads: args["vdoPhysicalThreads"],
  };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined && value !== null));
}

export function createOptions(args: Arguments): CreateOptions {
  return {
    name: String(args["name"]),
    device: String(args["device"]),
    settings: settingsOf(args),
    force: args["force"] === true,
    logLevel: (args["vdoLogLevel"] ?? undefined) as CreateOptions["logLevel"],
    physicalSize: (args["vdoPhysicalSize"] ?? undefined) as number | undefined,
  };
}
