/** The same tables, messages and writes here and in the real dm-thin: the same status lines, table lines and words of the log. */
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MemoryDevice } from "@vdo/block-device";
import { describeWithKernel, runGuest } from "@vdo/oracle";
import { afterAll, describe, expect, test } from "vitest";
import { type PoolEvent, type PoolFeatures, ThinPool, type ThinVolume } from "../src/index.ts";

const folder = mkdtempSync(join(tmpdir(), "thin-modes-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function image(name: string, bytes: number): string {
  const path = join(folder, name);
  writeFileSync(path, "");
  truncateSync(path, bytes);
  return path;
}

/** One step: what it is called, how the kernel is told, and how we are. */
type Step =
  | { kind: "table"; blocks: number; lowWater: number; features: Partial<PoolFeatures>; words: string }
  | { kind: "message"; text: string }
  | { kind: "write"; from: number; count: number }
  | { kind: "status" };

const TABLES = {
  plain: { features: { errorIfNoSpace: false, readOnly: false, discard: "passdown" }, words: "0" },
  changed: {
    features: { discard: "no_passdown", skipBlockZeroing: true },
    words: "2 no_discard_passdown skip_block_zeroing",
  },
  readOnly: {
    features: { readOnly: true, discard: "passdown", skipBlockZeroing: false },
    words: "1 read_only",
  },
  failing: { features: { errorIfNoSpace: true, readOnly: false }, words: "1 error_if_no_space" },
} as const;

const table = (name: keyof typeof TABLES, blocks: number, lowWater: number): Step => ({
  kind: "table",
  blocks,
  lowWater,
  ...TABLES[name],
});
const STATUS: Step = { kind: "status" };

/** The pool begins with four data blocks. */
const STEPS: readonly Step[] = [
  STATUS,
  { kind: "message", text: "create_thin 0" },
  { kind: "write", from: 0, count: 1 },
  STATUS,
  table("changed", 4, 2),
  STATUS,
  { kind: "write", from: 1, count: 2 },
  STATUS,
  table("readOnly", 4, 1),
  STATUS,
  { kind: "message", text: "create_thin 7" },
  table("failing", 4, 0),
  STATUS,
  { kind: "write", from: 3, count: 2 },
  STATUS,
  { kind: "message", text: "create_snap 1 0" },
  { kind: "message", text: "set_transaction_id 0 5" },
  STATUS,
  table("failing", 20, 0),
  STATUS,
  { kind: "write", from: 4, count: 3 },
  { kind: "message", text: "reserve_metadata_snap" },
  STATUS,
  { kind: "message", text: "delete 1" },
  { kind: "message", text: "release_metadata_snap" },
  table("plain", 20, 3),
  STATUS,
];

function guestLine(step: Step): string {
  switch (step.kind) {
    case "table":
      return `load "${step.blocks} ${step.lowWater} ${step.words}"`;
    case "message":
      return `dmsetup message pool 0 "${step.text}" 2> /dev/null && echo "message: done" || echo "message: refused"`;
    case "write":
      return `write ${step.from} ${step.count}`;
    case "status":
      return 'echo "status: $(dmsetup status pool | cut -d " " -f 4-)|"; echo "table: $(dmsetup table pool | cut -d " " -f 6-)|"';
  }
}

const SCRIPT = `load() {
  set -- $1
  blocks=$1; shift
  dmsetup reload pool --table "0 $((blocks * 128)) thin-pool /dev/vda /dev/vdb 128 $*" || exit 1
  dmsetup suspend pool; dmsetup resume pool || exit 1
}
write() {
  dd if=/dev/urandom of=/dev/mapper/t0 bs=64k seek=$1 count=$2 oflag=direct 2> /dev/null && echo "write: done" || echo "write: refused"
}
dmesg -c > /dev/null
dmsetup create pool --table "0 512 thin-pool /dev/vda /dev/vdb 128 1 0" || exit 1
`;

/** What our library says to the same. */
async function ours(): Promise<string[]> {
  const lines: string[] = [];
  const onEvent = ({ text, kind }: PoolEvent): void => void lines.push(`${kind === "log" ? "log" : "event"}: ${text}`);
  const pool = await ThinPool.open({
    metadata: new MemoryDevice({ blockCount: 1024 }),
    data: new MemoryDevice({ blockCount: 16 * 64 }),
    blockSectors: 128,
    dataSectors: 512,
    lowWater: 1,
    onEvent,
  });
  let volume: ThinVolume | undefined;
  const attempt = (name: string, act: () => Promise<unknown>): Promise<unknown> =>
    act().then(
      () => lines.push(`${name}: done`),
      () => lines.push(`${name}: refused`),
    );
  for (const step of STEPS) {
    if (step.kind === "status") {
      lines.push(`status: ${await pool.status()}|`);
      lines.push(`table: ${pool.table({ metadata: "", data: "" }).trimStart()}|`);
    } else if (step.kind === "message") {
      await attempt("message", () => pool.message(step.text));
      if (step.text === "create_thin 0") volume = await pool.volume({ id: 0, sectors: 128 * 64 });
    } else if (step.kind === "write") {
      await attempt("write", async () => {
        const block = new Uint8Array(65_536).fill(3);
        for (let i = 0; i < step.count; i++) await volume?.write((step.from + i) * 16, block);
      });
    } else await pool.reload({ ...step, dataSectors: step.blocks * 128 });
  }
  await volume?.close();
  await pool.close();
  return lines;
}

describeWithKernel(
  "a pool whose tables change while it is in use",
  () => {
    test("says what dm-thin says", async () => {
      const body = STEPS.map(guestLine).flatMap((line) =>
        line.includes('"create_thin 0"')
          ? [line, 'dmsetup create t0 --table "0 8192 thin /dev/mapper/pool 0" || exit 1']
          : [line],
      );
      const script = `${SCRIPT}${body.join("\n")}
dmsetup remove t0; dmsetup remove pool
dmesg | sed -n 's/.*device-mapper: thin: 25[0-9]:[0-9]*: /log: /p'
`;
      const disks = [image("metadata", 4 << 20), image("data", 4 << 20)];
      const run = await runGuest({ script, disks });
      expect(run.exitCode, run.output).toBe(0);
      // Where the metadata snapshot lies depends on when the kernel's timer committed.
      const said = (lines: readonly string[]): string[] =>
        lines
          .filter((line) => /^(status|table|message|write): /.test(line))
          .map((line) => line.replace(/(\d+\/\d+) \d+ rw/, "$1 HELD rw"));
      const mine = await ours();
      expect(said(mine)).toEqual(said(run.output.split("\n")));
      // The log has the same words in the same order; ours does not say a mode that is the present one.
      const words = (lines: readonly string[]): string[] =>
        lines
          .map((line) => line.replace(/^(?:log|event): /, ""))
          .filter((line) => /^(?:switching pool|growing the|reached low water mark for data)/.test(line));
      const logged = run.output.split("\n").filter((line) => line.startsWith("log: "));
      expect(words(mine)).toEqual(words(logged));
    });
  },
  { describe, test },
);
