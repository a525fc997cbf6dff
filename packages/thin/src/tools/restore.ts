/** Makes metadata from a dump, as thin_restore does. */
import type { BlockDevice } from "@vdo/block-device";
import type { DeviceDetails } from "../format/device-details.ts";
import { PoolBuilder } from "../metadata/pool-builder.ts";
import { checkBlockSectors } from "../pool/features.ts";
import type { DumpDevice, DumpHead } from "./dump-format.ts";
import { readDump } from "./xml-reader.ts";

/** Figures that replace those found; transaction and number of blocks can only be raised. */
export interface RestoreOptions {
  transactionId?: bigint;
  /** Sectors. */
  dataBlockSize?: number;
  dataBlocks?: number;
}

/** Restores `pieces` of a dump's XML to `output`, whose content is given up. Throws `VDO_THIN_SYNTAX`, `VDO_NO_SPACE`. */
export async function restore(
  pieces: AsyncIterable<string>,
  output: BlockDevice,
  options: RestoreOptions = {},
): Promise<void> {
  let builder: PoolBuilder | undefined;
  let device: DumpDevice | undefined;
  await readDump(pieces, {
    async begin(head) {
      builder = await PoolBuilder.begin(output, factsOf(head, options));
    },
    async deviceBegin(one) {
      device = one;
      await builder?.beginDevice();
    },
    run: (run) => builder?.add(run),
    async deviceEnd() {
      if (device !== undefined) await builder?.endDevice(device.id, detailsOf(device));
    },
    async end() {
      await builder?.finish();
    },
  });
}

export function factsOf(
  head: Pick<DumpHead, "time" | "transaction" | "dataBlockSize" | "dataBlocks">,
  options: RestoreOptions,
) {
  const wanted = options.transactionId ?? 0n;
  return {
    time: head.time,
    transactionId: wanted > head.transaction ? wanted : head.transaction,
    blockSectors: checkBlockSectors(options.dataBlockSize ?? head.dataBlockSize),
    dataBlocks: Math.max(head.dataBlocks, options.dataBlocks ?? 0),
  };
}

function detailsOf({ mappedBlocks, transaction, creationTime, snapTime }: DumpDevice): DeviceDetails {
  return { mappedBlocks, transactionId: transaction, creationTime, snapshottedTime: snapTime };
}
