/** Subcommands that change volumes and their settings. */
import type { WritePolicy } from "@vdo/manager";
import { type Arguments, selection, settingsOf } from "./arguments.ts";
import * as options from "./options.ts";
import type { Session, Subcommand } from "./subcommands.ts";

/** A subcommand that tells nothing when it succeeds. */
function subcommand(
  { help, selects, options: own = [], atLeastOne }: Pick<Subcommand, "help" | "selects"> & Partial<Subcommand>,
  work: (session: Session, args: Arguments) => Promise<void>,
): Subcommand {
  const run = async (session: Session, args: Arguments): Promise<undefined> => {
    await work(session, args);
  };
  return { help, selects, options: own, run, ...(atLeastOne === undefined ? {} : { atLeastOne }) };
}

export const ACTIVATE = subcommand(
  { help: "Activates one or more volumes: start --all starts them.", selects: "one" },
  ({ manager }, args) => manager.setActivated(selection(args), true),
);

export const DEACTIVATE = subcommand(
  { help: "Deactivates one or more volumes: they are not started. One that runs goes on running.", selects: "one" },
  ({ manager }, args) => manager.setActivated(selection(args), false),
);

export const CHANGE_WRITE_POLICY = subcommand(
  { help: "Changes when one or more volumes acknowledge writes.", selects: "one", options: [options.WRITE_POLICY] },
  ({ manager }, args) => manager.changeWritePolicy(selection(args), args["writePolicy"] as WritePolicy),
);

export const CONVERT = subcommand(
  {
    help: "Not supported: converts a volume for use by LVM. The kernel's tools can do that.",
    selects: "name",
    options: [options.FORCE_CONVERT],
  },
  ({ manager }, args) => manager.convert(String(args["name"])),
);

export const GROW_LOGICAL = subcommand(
  { help: "Grows the logical size of a running volume.", selects: "name", options: [options.LOGICAL_SIZE] },
  ({ manager }, args) =>
    manager.growLogical({ name: String(args["name"]), logicalSize: args["vdoLogicalSize"] as number }),
);

export const GROW_PHYSICAL = subcommand(
  {
    help: "Grows the physical size of a running volume to what its storage has become.",
    selects: "name",
    options: [options.PHYSICAL_SIZE],
  },
  ({ manager }, args) =>
    manager.growPhysical({
      name: String(args["name"]),
      physicalSize: (args["vdoPhysicalSize"] ?? undefined) as number | undefined,
    }),
);

export const MODIFY = subcommand(
  {
    help: "Changes settings of one or more volumes, for their next start.",
    selects: "one",
    options: options.MODIFY,
    atLeastOne: options.MODIFY.filter(
      ({ flags, help }) =>
        help !== undefined && !["--attach", "--discardStorage", "--onFull", "--statusPage"].includes(flags[0]),
    ),
  },
  ({ manager }, args) => manager.modify(selection(args), settingsOf(args)),
);
