/** The tools of `vdo thin`: what looks at metadata, and makes it anew. */
import { createReadStream } from "node:fs";
import { open } from "node:fs/promises";
import { errorMessage, isVdoError } from "@vdo/base";
import { type BlockDevice, MemoryDevice } from "@vdo/block-device";
import {
  check,
  clearNeedsCheck,
  delta,
  dump,
  fixLeaks,
  formatDelta,
  formatReverseMap,
  isHealthy,
  ls,
  metadataBytes,
  parseRegion,
  type RestoreOptions,
  repair,
  restore,
  reverseMap,
  trim,
} from "@vdo/thin";
import {
  type Call,
  type Command,
  list,
  managerOf,
  number,
  poolOf,
  readMetadata,
  text,
  usage,
  withMetadata,
  withMetadataDevice,
} from "./call.ts";
import { type EstimateSize, estimateSize, inEstimateUnit, unitName } from "./estimate-units.ts";
import { FAILURE_STATUS } from "./grammar.ts";
import { numberOf } from "./values.ts";

/** `metadataSnapshot` of the library, from the switch and the block. */
function snapshotOf(call: Call): { metadataSnapshot: boolean | number } {
  return { metadataSnapshot: number(call, "metadata_snap_block") ?? call.args["metadata_snap"] === true };
}

async function checkMetadata(call: Call): Promise<number> {
  const { args, streams } = call;
  const [mapping, details] = [number(call, "override_mapping_root"), number(call, "override_details_root")];
  const [repairs, clears] = [args["auto_repair"] === true, args["clear_needs_check_flag"] === true];
  const isPartial = args["metadata_snap"] === true || mapping !== undefined || details !== undefined;
  if ((repairs || clears) && isPartial) {
    streams.err(
      "--auto-repair and --clear-needs-check-flag do not go with -m or other roots: they need the whole check\n",
    );
    return FAILURE_STATUS;
  }
  const access = { readOnly: !repairs && !clears, whileRunning: args["metadata_snap"] === true };
  return withMetadata(call, access, async (device) => {
    const options = {
      superblockOnly: args["super_block_only"] === true,
      skipMappings: args["skip_mappings"] === true,
      metadataSnapshot: args["metadata_snap"] === true,
      ...(mapping === undefined ? {} : { overrideMappingRoot: mapping }),
      ...(details === undefined ? {} : { overrideDetailsRoot: details }),
    };
    const say = args["quiet"] === true ? () => {} : streams;
    const onStep = (step: string): void => {
      if (typeof say !== "function") say.err(`${step}\n`);
    };
    let report = await check(device, { ...options, onStep });
    if (typeof say !== "function") {
      for (const { severity, structure, text: what } of report.problems)
        say.err(`${severity}: ${structure}: ${what}\n`);
      if (report.superblock !== undefined) {
        say.out(`TRANSACTION_ID=${report.superblock.transactionId}\nMETADATA_FREE_BLOCKS=${report.freeBlocks}\n`);
      }
    }
    if (repairs && report.leaks.length > 0) {
      const count = await fixLeaks(device, report);
      if (typeof say !== "function") say.err(`${count} leaked blocks were freed\n`);
      report = await check(device, options);
    }
    const healthy = isHealthy(report, args["ignore_non_fatal_errors"] === true);
    if (clears && healthy) await clearNeedsCheck(device, report);
    return healthy ? 0 : FAILURE_STATUS;
  });
}

async function dumpMetadata(call: Call): Promise<number | undefined> {
  const { args, streams } = call;
  const output = text(call, "output");
  const file = output === undefined ? undefined : await open(output, "w");
  const devices = list(call, "dev_id").map((id) => numberOf(id, "--dev-id"));
  const options = {
    ...snapshotOf(call),
    format: (text(call, "format") ?? "xml") as "xml" | "human_readable",
    skipMappings: args["skip_mappings"] === true,
    ...(devices.length === 0 ? {} : { devices }),
  };
  try {
    await readMetadata(call, async (device) => {
      const source = args["repair"] === true ? await repaired(device) : device;
      for await (const piece of dump(source, options)) {
        if (file === undefined) streams.out(piece);
        else await file.write(piece);
      }
    });
    return undefined;
  } catch (error) {
    if (!isVdoError(error, "VDO_CORRUPT")) throw error;
    streams.err(
      "metadata contains errors (run vdo thin check for details).\nperhaps you wanted to run with --repair\n",
    );
    streams.err(`${errorMessage(error)}\n`);
    return FAILURE_STATUS;
  } finally {
    await file?.close();
  }
}

/** What can be read of `device`, as new metadata in memory. */
async function repaired(device: BlockDevice): Promise<BlockDevice> {
  const blockCount = Math.max(1024, device.blockCount + 64);
  const copy = new MemoryDevice({ blockCount });
  await repair(device, copy);
  return copy;
}

function overridesOf(call: Call): RestoreOptions {
  const id = text(call, "transaction_id");
  const [size, blocks] = [number(call, "data_block_size"), number(call, "nr_data_blocks")];
  return {
    ...(id === undefined ? {} : { transactionId: BigInt(numberOf(id, "--transaction-id")) }),
    ...(size === undefined ? {} : { dataBlockSize: size }),
    ...(blocks === undefined ? {} : { dataBlocks: blocks }),
  };
}

async function restoreMetadata(call: Call): Promise<undefined> {
  const pieces = createReadStream(text(call, "input") as string, { encoding: "utf8" });
  const output = text(call, "output") as string;
  await withMetadataDevice(output, false, (device) => restore(pieces, device, overridesOf(call)));
  if (call.args["quiet"] !== true) call.streams.out(`${output} was restored\n`);
}

async function repairMetadata(call: Call): Promise<undefined> {
  const [input, output] = [text(call, "input") as string, text(call, "output") as string];
  await withMetadataDevice(input, true, (source) =>
    withMetadataDevice(output, false, async (target) => {
      const roots = text(call, "roots") as "auto" | "present" | "earlier" | undefined;
      const { devices, lost, earlier } = await repair(source, target, {
        ...overridesOf(call),
        ...(roots === undefined ? {} : { roots }),
      });
      if (earlier !== undefined) {
        call.streams.err(
          `went back to an earlier state: mappings at block ${earlier.mappingRoot}, details at ${earlier.detailsRoot ?? "none"}\n`,
        );
      }
      for (const { tree, begin, end, text: why } of lost) {
        call.streams.err(`lost: ${tree}, ${begin} to ${end === Number.POSITIVE_INFINITY ? "the end" : end}: ${why}\n`);
      }
      call.streams.out(`${devices.length} devices were kept\n`);
    }),
  );
}

async function listDevices(call: Call): Promise<undefined> {
  const fields = text(call, "format")?.split(",");
  const options = { ...snapshotOf(call), noHeaders: call.args["no_headers"] === true };
  await readMetadata(call, async (device) => {
    call.streams.out(await ls(device, { ...options, ...(fields === undefined ? {} : { fields }) }));
  });
}

async function showDelta(call: Call): Promise<undefined> {
  const [left, right] = [number(call, "thin1") as number, number(call, "thin2") as number];
  await readMetadata(call, async (device) => {
    const found = await delta(device, { left, right, ...snapshotOf(call) });
    call.streams.out(formatDelta(found, call.args["verbose"] === true));
  });
}

async function showReverseMap(call: Call): Promise<undefined> {
  const regions = list(call, "region").map(parseRegion);
  await readMetadata(call, async (device) => call.streams.out(formatReverseMap(await reverseMap(device, regions))));
}

async function trimPool(call: Call): Promise<undefined> {
  const settings = await poolOf(call);
  if ((await managerOf(call).running(settings)) !== undefined) throw usage("the pool is running: stop it first");
  await managerOf(call).withSource(settings, async ({ metadata, data }) => {
    call.streams.out(`${await trim(metadata, data)} data blocks were discarded\n`);
  });
}

async function metadataSize(call: Call): Promise<undefined> {
  const [block, pool, thins] = ["block_size", "pool_size", "max_thins"].map((name) =>
    estimateSize(text(call, name) as string, name === "max_thins" ? "b" : "s"),
  ) as [EstimateSize, EstimateSize, EstimateSize];
  const bytes = metadataBytes({ blockBytes: block.bytes, poolBytes: pool.bytes, thins: thins.bytes });
  const unit = text(call, "unit") ?? "s";
  const figure = inEstimateUnit(bytes, unit);
  const form = text(call, "numeric_only");
  if (form !== undefined) {
    call.streams.out(`${figure}${form === "short" ? unit : form === "long" ? unitName(unit) : ""}\n`);
    return;
  }
  const asked = `--block-size=${block.text} --pool-size=${pool.text} --max-thins=${thins.text}`;
  call.streams.out(`thin_metadata_size - ${figure} ${unitName(unit)} estimated metadata area size for "${asked}"\n`);
}

export const TOOL_COMMANDS: { readonly [name: string]: Command } = {
  check: checkMetadata,
  dump: dumpMetadata,
  restore: restoreMetadata,
  repair: repairMetadata,
  ls: listDevices,
  delta: showDelta,
  rmap: showReverseMap,
  trim: trimPool,
  "metadata-size": metadataSize,
};
