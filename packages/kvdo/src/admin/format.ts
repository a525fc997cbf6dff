/**
 * Formatting: a device becomes an empty volume, whose every block that the format touches equals what vdoformat 8.3 writes
 * for the same options, nonce and UUID.
 *
 * Every check comes before the first write, so a refused format leaves the device as it was. From the first write on, the
 * geometry block is zero until everything else is on the device: a format that was cut off leaves no volume, never half of
 * one. Order of writes:
 *
 * | step | blocks |
 * |---|---|
 * | 1 | block 1 zero (an old index must not be taken for ours), block 0 zero; flush |
 * | 2 | the 60 block map roots zero, the recovery journal zero, the super block; flush |
 * | 3 | the geometry block; flush; both read back and compared |
 *
 * Slab summary, slab journals and reference counts are not cleared: the state NEW tells the first start to ignore them.
 */
import { randomBytes } from "node:crypto";
import { type Clock, firstDifference, systemClock, VdoError } from "@vdo/base";
import type { BlockDevice } from "@vdo/block-device";
import { encodeGeometryBlock, encodeSuperBlock } from "../format/index.ts";
import { BlockAccess } from "./block-access.ts";
import { checkFormatOptions, type FormatReport, makePlan, type PlanOptions } from "./format-plan.ts";
import { newSuperBlock } from "./new-super-block.ts";
import { findSignatures } from "./signatures.ts";

export interface FormatOptions extends PlanOptions {
  /** Stamped into every metadata block; tells this life of the device from earlier ones. Default: microseconds since 1970. */
  nonce?: bigint;
  /** 16 bytes. Default: random (version 4). */
  uuid?: Uint8Array;
  /** Format even when the device holds something that is known. */
  force?: boolean;
  clock?: Clock;
}

/** What was made. */
export interface FormatResult extends FormatReport {
  nonce: bigint;
  uuid: Uint8Array;
}

function randomUuid(): Uint8Array {
  const uuid = new Uint8Array(randomBytes(16));
  uuid[6] = (uuid[6]! & 0x0f) | 0x40;
  uuid[8] = (uuid[8]! & 0x3f) | 0x80;
  return uuid;
}

function checkIdentity(nonce: bigint, uuid: Uint8Array): void {
  if (nonce < 0n || nonce >= 1n << 64n) {
    throw new VdoError("VDO_BAD_ARGUMENT", `nonce ${nonce} does not fit in 64 bits`, {
      argument: "nonce",
      value: nonce,
    });
  }
  if (uuid.length !== 16) {
    throw new VdoError("VDO_BAD_ARGUMENT", `a UUID has 16 bytes, not ${uuid.length}`, {
      argument: "uuid",
      value: uuid.length,
    });
  }
}

/** Throws `VDO_SIGNATURE_FOUND` when the device holds something. */
async function checkSignatures(device: BlockDevice): Promise<void> {
  const signatures = await findSignatures(device);
  if (signatures.length === 0) return;
  const list = signatures.map(({ type, offset }) => `${type} at byte ${offset}`).join(", ");
  throw new VdoError(
    "VDO_SIGNATURE_FOUND",
    `the device already holds: ${list}. Use force to format it again and lose what is there`,
    { signatures },
  );
}

async function verify(blocks: BlockAccess, block: number, expected: Uint8Array, structure: string): Promise<void> {
  const difference = firstDifference(await blocks.readBlock(block), expected);
  if (difference < 0) return;
  throw new VdoError(
    "VDO_CORRUPT",
    `${structure} at block ${block} reads back differently from byte ${difference}: the device does not keep what is written`,
    { structure, field: `byte ${difference}`, expected: "what was written", actual: "something else" },
  );
}

/**
 * Formats a device. Throws what `planFormat` throws, `VDO_SIGNATURE_FOUND` unless forced, `VDO_READ_ONLY`, and what the
 * device throws.
 */
export async function format(device: BlockDevice, options: FormatOptions = {}): Promise<FormatResult> {
  const blocks = new BlockAccess(device);
  const nonce = options.nonce ?? BigInt((options.clock ?? systemClock).wallMicroseconds());
  const uuid = options.uuid ?? randomUuid();
  checkFormatOptions(blocks.blockCount, options);
  checkIdentity(nonce, uuid);
  if (device.readOnly === true) {
    throw new VdoError("VDO_READ_ONLY", "the device to format is read-only", { object: "device" });
  }
  if (options.force !== true) await checkSignatures(device);
  const { report, layout, index } = makePlan(blocks.blockCount, options);
  const superBlock = encodeSuperBlock(newSuperBlock({ layout, logicalBlocks: report.logicalBlocks, nonce }));
  const geometry = encodeGeometryBlock({
    version: 5,
    releaseNumber: 0,
    nonce,
    uuid,
    bioOffset: 0,
    indexStart: layout.index.start,
    dataStart: layout.dataStart,
    index,
  });

  await blocks.zero(layout.index.start, 1);
  await blocks.zero(0, 1);
  await device.flush();
  await blocks.zero(layout.blockMap.start, layout.blockMap.count);
  await blocks.zero(layout.recoveryJournal.start, layout.recoveryJournal.count);
  await blocks.write(layout.dataStart, superBlock);
  await device.flush();
  await blocks.write(0, geometry);
  await device.flush();
  await verify(blocks, layout.dataStart, superBlock, "SuperBlock");
  await verify(blocks, 0, geometry, "GeometryBlock");
  return { ...report, nonce, uuid };
}
