import { VdoError } from "@vdo/base";
import { describe, expect, test } from "vitest";
import { accessError, commandError, errnoOf, errorFromStatus, exitStatus } from "./errors.ts";

const denied = Object.assign(new Error("EACCES: permission denied, open '/dev/sdb'"), { code: "EACCES" });

describe("exit statuses", () => {
  test.each([
    [1, commandError("VDO_COMMAND_FAILED", "")],
    [4, commandError("VDO_INCONSISTENT", "")],
    [5, commandError("VDO_WRONG_STATE", "")],
    [6, commandError("VDO_SYSTEM", "")],
    [7, commandError("VDO_USER", "")],
    [1, new VdoError("VDO_NO_SPACE", "", { blocksFree: 0 })],
    [1, new TypeError("bug")],
  ])("%d", (status, error) => {
    expect(exitStatus(error)).toBe(status);
    expect(exitStatus(errorFromStatus({ status, message: "" }, ""))).toBe(status);
  });
});

describe("errors of the system", () => {
  test("denied access names the object and the way out, whoever reported it", () => {
    const wrapped = new VdoError("VDO_IO", "cannot open", { operation: "open", block: 0 }, denied);
    for (const error of [denied, wrapped]) {
      const told = accessError(error, "/dev/sdb", "create");
      expect(errnoOf(error)).toBe("EACCES");
      expect(told.message).toBe(
        'Permission denied: /dev/sdb; you must be root, or have access to it, to use the "create" command',
      );
      expect(exitStatus(told)).toBe(7);
    }
  });

  test("any other has its own message, and names the object", () => {
    expect(accessError(new Error("disk on fire"), "/x", "stop").message).toBe("Cannot use /x: disk on fire");
    expect(errnoOf(new Error("plain"))).toBeUndefined();
  });
});
