import { firstDifference, isVdoError } from "@vdo/base";
import { expect, test } from "vitest";
import { goldenBlock, goldenPlace } from "../../test/support/golden.ts";
import { volumeChecksum } from "./checksum.ts";
import { checkConfiguration } from "./configuration-check.ts";
import { decodeGeometryBlock } from "./geometry-block.ts";
import { findPartition, PARTITION } from "./layout-component.ts";
import { decodeSuperBlock, encodeSuperBlock, type SuperBlock, superBlock } from "./super-block.ts";

const golden = (): SuperBlock => decodeSuperBlock(goldenBlock("super-block"));
const geometry = decodeGeometryBlock(goldenBlock("geometry-block"));
const DEVICE_BLOCKS = 1048576;

test("the kernel's super block is read and written byte for byte", () => {
  const block = goldenBlock("super-block");
  const value = decodeSuperBlock(block);
  expect(value.vdo.state).toBe(2);
  expect(value.vdo.config).toEqual({
    logicalBlocks: 16777216,
    physicalBlocks: DEVICE_BLOCKS,
    slabBlocks: 8192,
    recoveryJournalBlocks: 32768,
    slabJournalBlocks: 224,
  });
  expect(value.recoveryJournal).toMatchObject({ journalStart: 47, logicalBlocksUsed: 7142 });
  // The first start and stop left the partitions turned round.
  expect(value.layout.partitions.map(({ id }) => id)).toEqual([0, 3, 2, 1]);
  expect(findPartition(value.layout, PARTITION.blockMap).start).toBe(goldenPlace("block-map-root"));
  expect(firstDifference(encodeSuperBlock(value), block)).toBe(-1);
  checkConfiguration(value, geometry, DEVICE_BLOCKS);
});

test("bytes after the encoding are kept as they are", () => {
  const block = new Uint8Array(4096).fill(0x5a);
  encodeSuperBlock(golden(), block);
  expect(block.subarray(superBlock.size).every((byte) => byte === 0x5a)).toBe(true);
});

test("a super block with any one bit flipped is refused", () => {
  const block = goldenBlock("super-block");
  for (let bit = 0; bit < superBlock.size * 8; bit++) {
    block[bit >> 3] = block[bit >> 3]! ^ (1 << (bit & 7));
    expect(() => decodeSuperBlock(block), `bit ${bit}`).toThrow();
    block[bit >> 3] = block[bit >> 3]! ^ (1 << (bit & 7));
  }
});

/** A damaged value, with a right checksum; each must be refused by its own code and name its place. */
const DECODING: [string, (value: SuperBlock) => void, string, string, string][] = [
  ["super block id", (v) => (v.header.id = 1), "VDO_INCORRECT_COMPONENT", "SuperBlock", "id"],
  ["super block version", (v) => (v.header.version.major = 13), "VDO_UNSUPPORTED_VERSION", "SuperBlock", "version"],
  ["super block size", (v) => (v.header.size = 419), "VDO_UNSUPPORTED_VERSION", "SuperBlock", "size"],
  ["super block size below", (v) => (v.header.size = 3), "VDO_UNSUPPORTED_VERSION", "SuperBlock", "size"],
  ["volume version", (v) => (v.volumeVersion.major = 66), "VDO_UNSUPPORTED_VERSION", "Volume", "version"],
  ["component version", (v) => (v.vdo.version.minor = 1), "VDO_UNSUPPORTED_VERSION", "VdoComponent", "version"],
  ["layout id", (v) => (v.layout.header.id = 2), "VDO_INCORRECT_COMPONENT", "Layout", "id"],
  ["layout size", (v) => (v.layout.header.size = 116), "VDO_UNSUPPORTED_VERSION", "Layout", "size"],
  [
    "journal version",
    (v) => (v.recoveryJournal.header.version.major = 8),
    "VDO_UNSUPPORTED_VERSION",
    "RecoveryJournalComponent",
    "version",
  ],
  ["depot size", (v) => (v.slabDepot.header.size = 72), "VDO_UNSUPPORTED_VERSION", "SlabDepotComponent", "size"],
  ["block map id", (v) => (v.blockMap.header.id = 3), "VDO_INCORRECT_COMPONENT", "BlockMapComponent", "id"],
  [
    "flat page origin",
    (v) => (v.blockMap.flatPageOrigin = 0),
    "VDO_BAD_CONFIGURATION",
    "BlockMapComponent",
    "flatPageOrigin",
  ],
  [
    "flat page count",
    (v) => (v.blockMap.flatPageCount = 1),
    "VDO_BAD_CONFIGURATION",
    "BlockMapComponent",
    "flatPageCount",
  ],
];

function expectRefusal(run: () => void, code: string, facts: object): void {
  try {
    run();
  } catch (error) {
    if (!isVdoError(error)) throw error;
    expect(error.code).toBe(code);
    expect(error.data).toMatchObject(facts);
    return;
  }
  expect.unreachable("it was accepted");
}

test.each(DECODING)("a wrong %s is refused when decoding", (_, damage, code, structure, field) => {
  const value = golden();
  damage(value);
  expectRefusal(() => decodeSuperBlock(encodeSuperBlock(value)), code, { structure, field });
});

const partition = (value: SuperBlock, id: 0 | 1 | 2 | 3) => findPartition(value.layout, id);

const CONFIGURATION: [string, (value: SuperBlock) => void, string, object][] = [
  ["nonce", (v) => (v.vdo.nonce += 1n), "VDO_BAD_NONCE", { structure: "SuperBlock" }],
  ["slab size 0", (v) => (v.vdo.config.slabBlocks = 0), "VDO_BAD_CONFIGURATION", { field: "slabBlocks" }],
  ["slab size no power of two", (v) => (v.vdo.config.slabBlocks = 8193), "VDO_BAD_CONFIGURATION", { actual: 8193 }],
  ["slab size too large", (v) => (v.vdo.config.slabBlocks = 2 ** 24), "VDO_BAD_CONFIGURATION", { field: "slabBlocks" }],
  [
    "slab journal of one block",
    (v) => (v.vdo.config.slabJournalBlocks = 1),
    "VDO_BAD_CONFIGURATION",
    { field: "slabJournalBlocks" },
  ],
  [
    "slab journal larger than the slab",
    (v) => (v.vdo.config.slabJournalBlocks = 8193),
    "VDO_BAD_CONFIGURATION",
    { field: "slabJournalBlocks" },
  ],
  ["physical size 0", (v) => (v.vdo.config.physicalBlocks = 0), "VDO_BAD_CONFIGURATION", { field: "physicalBlocks" }],
  [
    "physical size above the limit",
    (v) => (v.vdo.config.physicalBlocks = 2 ** 36 + 1),
    "VDO_BAD_CONFIGURATION",
    { field: "physicalBlocks" },
  ],
  [
    "logical size above the limit",
    (v) => (v.vdo.config.logicalBlocks = 2 ** 40 + 1),
    "VDO_BAD_CONFIGURATION",
    { field: "logicalBlocks" },
  ],
  [
    "journal no power of two",
    (v) => (v.vdo.config.recoveryJournalBlocks = 32767),
    "VDO_BAD_CONFIGURATION",
    { field: "recoveryJournalBlocks" },
  ],
  [
    "journal of another size than its partition",
    (v) => (v.vdo.config.recoveryJournalBlocks = 16384),
    "VDO_BAD_CONFIGURATION",
    { expected: 32768, actual: 16384 },
  ],
  ["five partitions", (v) => (v.layout.partitionCount = 5), "VDO_BAD_LAYOUT", { field: "partition count" }],
  ["three partitions", (v) => (v.layout.partitionCount = 3), "VDO_UNKNOWN_PARTITION", { field: "partitions" }],
  ["a partition twice", (v) => (partition(v, 0).id = 1), "VDO_UNKNOWN_PARTITION", { expected: 0 }],
  ["a gap between partitions", (v) => partition(v, 0).count--, "VDO_BAD_LAYOUT", { field: "end of the partitions" }],
  ["a partition past the end", (v) => partition(v, 3).start++, "VDO_BAD_LAYOUT", { field: "slab summary partition" }],
  ["a partition over the super block", (v) => (partition(v, 0).start = 679128), "VDO_BAD_LAYOUT", {}],
  ["other slabs in the depot", (v) => (v.slabDepot.slabConfig.slabBlocks = 16384), "VDO_BAD_CONFIGURATION", {}],
  ["no data blocks", (v) => (v.slabDepot.slabConfig.dataBlocks = 0), "VDO_BAD_CONFIGURATION", { field: "dataBlocks" }],
  ["too many data blocks", (v) => v.slabDepot.slabConfig.dataBlocks++, "VDO_BAD_CONFIGURATION", { actual: 7967 }],
  ["slabs elsewhere", (v) => v.slabDepot.firstBlock++, "VDO_BAD_CONFIGURATION", { field: "firstBlock" }],
  ["no slab", (v) => (v.slabDepot.lastBlock = v.slabDepot.firstBlock), "VDO_BAD_CONFIGURATION", { field: "lastBlock" }],
  ["slabs past the depot", (v) => (v.slabDepot.lastBlock += 8192), "VDO_BAD_CONFIGURATION", { field: "lastBlock" }],
];

test.each(CONFIGURATION)("%s is refused as a configuration", (_, damage, code, facts) => {
  const value = golden();
  damage(value);
  const decoded = decodeSuperBlock(encodeSuperBlock(value));
  expectRefusal(() => checkConfiguration(decoded, geometry, DEVICE_BLOCKS), code, facts);
});

test("a device smaller than the volume is refused, a larger one is not", () => {
  expectRefusal(() => checkConfiguration(golden(), geometry, DEVICE_BLOCKS - 1), "VDO_PARAMETER_MISMATCH", {
    expected: DEVICE_BLOCKS - 1,
    actual: DEVICE_BLOCKS,
  });
  checkConfiguration(golden(), geometry, DEVICE_BLOCKS + 1);
});

test("a count that no number can hold is refused with its structure and field", () => {
  const block = goldenBlock("super-block");
  block.fill(0xff, 60, 68);
  const checksum = volumeChecksum(block.subarray(0, 434));
  new DataView(block.buffer).setUint32(434, checksum, true);
  expectRefusal(() => decodeSuperBlock(block), "VDO_CORRUPT", { structure: "VolumeConfig", field: "logicalBlocks" });
});

test("too few bytes are refused", () => {
  expect(() => decodeSuperBlock(new Uint8Array(437))).toThrow("too few");
});
