import { VdoError } from "@vdo/base";
import { expect, test } from "vitest";
import { kernelStatus, kernelStatusText } from "./errors.ts";

test("errors are printed with the kernel's numbers and texts", () => {
  const facts = { structure: "GeometryBlock", field: "magic", expected: "dmvdo001", actual: "" };
  expect(kernelStatusText(new VdoError("VDO_BAD_MAGIC", "no volume", facts))).toBe(
    "VDO Status: Bad magic number (1487)",
  );
  expect(kernelStatusText(new VdoError("VDO_BAD_LAYOUT", "gap", facts))).toBe(
    "UDS Error: UDS data structures are in an invalid state (1026)",
  );
  expect(kernelStatusText(new VdoError("VDO_CLOSED", "it was closed", { object: "volume" }))).toBe("it was closed");
});

test("numbers are those of the kernel", () => {
  const numbers = {
    VDO_OUT_OF_RANGE: 1465,
    VDO_REF_COUNT: 1466,
    VDO_NO_SPACE: 1467,
    VDO_DEVICE_TOO_SMALL: 1467,
    VDO_BAD_CONFIGURATION: 1468,
    VDO_BUSY: 1469,
    VDO_BAD_PAGE: 1470,
    VDO_UNSUPPORTED_VERSION: 1471,
    VDO_INCORRECT_COMPONENT: 1472,
    VDO_PARAMETER_MISMATCH: 1473,
    VDO_UNKNOWN_PARTITION: 1474,
    VDO_INCREMENT_TOO_SMALL: 1476,
    VDO_CHECKSUM: 1477,
    VDO_READ_ONLY: 1479,
    VDO_CORRUPT_JOURNAL: 1481,
    VDO_TOO_MANY_SLABS: 1482,
    VDO_INVALID_FRAGMENT: 1483,
    VDO_BAD_MAPPING: 1485,
    VDO_BAD_NONCE: 1488,
    VDO_JOURNAL_OVERFLOW: 1489,
    VDO_INVALID_ADMIN_STATE: 1490,
  } as const;
  for (const [code, number] of Object.entries(numbers)) {
    expect(kernelStatus(code as keyof typeof numbers)?.number, code).toBe(number);
  }
  expect(kernelStatus("VDO_INVARIANT")).toBeUndefined();
});
