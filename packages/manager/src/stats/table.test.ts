import { emptyStatistics } from "@vdo/kvdo";
import { describe, expect, test } from "vitest";
import { humanSize } from "./human-size.ts";
import { tableLines } from "./table.ts";

/** Data, overhead, logical and physical blocks of the volumes that the original was shown. */
type Volume = [name: string, data: number, overhead: number, logical: number, physical: number, recovering?: boolean];

function rows(...volumes: Volume[]) {
  return volumes.map(([name, dataBlocksUsed, overheadBlocksUsed, logicalBlocksUsed, physicalBlocks, recovering]) => ({
    name,
    statistics: {
      ...emptyStatistics(),
      dataBlocksUsed,
      overheadBlocksUsed,
      logicalBlocksUsed,
      physicalBlocks,
      inRecoveryMode: recovering === true,
    },
  }));
}

const a: Volume = ["a", 1000, 787140, 3000, 1310720];

describe("the table of vdostats", () => {
  test("every case prints as the 8.3 program prints it", () => {
    const lines = tableLines(
      rows(
        a,
        ["empty", 0, 787140, 0, 1310720],
        ["rec", 1000, 787140, 3000, 1310720, true],
        ["neg", 4000, 787140, 3000, 1310720],
        ["big", 106137386, 787140, 135000000, 483140608],
        ["over", 20, 100, 1, 110],
        ["half", 5, 0, 1000, 1000],
        ["p995", 995, 0, 1000, 1000],
        ["p994", 994, 0, 1000, 1000],
        ["averyveryverylongname0123456789", 2, 0, 1000, 256],
      ),
      "plain",
    );
    expect(lines).toEqual([
      "Device                          1k-blocks      Used Available Use% Space saving%",
      "a                                 5242880   3152560   2090320  60%           66%",
      "empty                             5242880   3148560   2094320  60%            0%",
      "rec                               5242880       N/A       N/A N/A          N/A",
      "neg                               5242880   3164560   2078320  60%          N/A",
      "big                             1932562432 427698104 1504864328  22%           21%",
      "over                                  440       480 18014398509481944 109%          N/A",
      "half                                 4000        20      3980   1%           99%",
      "p995                                 4000      3980        20 100%            0%",
      "p994                                 4000      3976        24  99%            0%",
      "averyveryverylongname0123456789      1024         8      1016   1%           99%",
    ]);
  });

  test("human-readable sizes, and a recovering volume that keeps its KiB", () => {
    expect(tableLines(rows(["vdo0", 0, 726954, 0, 1572864]), "human")).toEqual([
      "Device      Size      Used Available Use% Space saving%",
      "vdo0        6.0G      2.8G      3.2G  46%            0%",
    ]);
    expect(tableLines(rows(["vdo0", 0, 726954, 0, 1572864]), "si")).toEqual([
      "Device      Size      Used Available Use% Space saving%",
      "vdo0        6.4G      3.0G      3.5G  46%            0%",
    ]);
    expect(tableLines(rows(["rec", 0, 1, 0, 1310720, true]), "human")[1]).toBe(
      "rec      5242880       N/A       N/A N/A          N/A",
    );
  });

  test("a volume of the reference workload", () => {
    // 8 GiB after its eight steps: 37 % saved, 38 % used.
    const [header, line] = tableLines(rows(["v", 0, 789910, 0, 2097152]), "plain");
    expect(header).toBe("Device 1k-blocks      Used Available Use% Space saving%");
    expect(line).toBe("v        8388608   3159640   5228968  38%            0%");
  });
});

describe("sizes with a unit", () => {
  test.each<[blocks: number, human: string, si: string]>([
    [0, "0.0B", "0.0B"],
    [244, "976.0K", "999.4K"],
    [255, "1020.0K", "1.0M"],
    [256, "1.0M", "1.0M"],
    [262143, "1024.0M", "1.1G"],
    [327680, "1.2G", "1.3G"],
    [353894, "1.3G", "1.4G"],
    [458752, "1.8G", "1.9G"],
    [589824, "2.2G", "2.4G"],
    [1310720, "5.0G", "5.4G"],
    [483140608, "1.8T", "2.0T"],
    [68719476736, "256.0T", "281.5T"],
    [274877906944, "1024.0T", "1125.9T"],
  ])("%d blocks print as %s and %s", (blocks, human, si) => {
    expect(humanSize(blocks * 4096, 1024)).toBe(human);
    expect(humanSize(blocks * 4096, 1000)).toBe(si);
  });
});
