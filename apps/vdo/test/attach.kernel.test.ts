/**
 * A volume that `vdo start --foreground` serves on an inherited TCP socket, attached in the reference machine by the kernel's own
 * NBD client, grown both ways under the mounted file system there, and opened by the kernel's dm-vdo afterwards.
 */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, createServer, type Server } from "node:net";
import { join } from "node:path";
import { describeWithKernel, runGuest } from "@vdo/oracle";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CommandLine } from "./support/command-line.ts";

const GIB = 1024 ** 3;

describeWithKernel(
  "a volume attached in another machine",
  () => {
    let commands: CommandLine;
    let daemon: ChildProcess;
    let listener: Server;
    let image = "";
    let sum = "";
    beforeAll(async () => {
      commands = await CommandLine.make();
      image = join(commands.folder, "disk.img");
      listener = createServer().listen(0, "127.0.0.1");
      await once(listener, "listening");
    });
    afterAll(() => commands.remove());

    const must = async (...words: string[]): Promise<void> => {
      const { status, out, err } = await commands.vdo(...words);
      expect(status, `vdo ${words.join(" ")}: ${err}${out}`).toBe(0);
    };

    test("keeps its file system while it grows below it, and shows the new size to the next connection", async () => {
      const sizes = ["--vdoPhysicalSize=3G", "--vdoSlabSize=128M", "--vdoLogicalSize=1G", "--attach=none"];
      await must("create", "--name=v0", `--device=${image}`, ...sizes);
      await must("stop", "--name=v0");
      const { fd } = (listener as unknown as { _handle: { fd: number } })._handle;
      daemon = commands.spawnVdo(["start", "--name=v0", "--foreground"], fd);
      await new Promise<void>((resolve, reject) => {
        daemon.stdout?.on("data", (text: Buffer) => text.includes("ready at") && resolve());
        daemon.once("exit", (status) => reject(new Error(`the daemon ended with ${status}`)));
      });
      const { port } = listener.address() as AddressInfo;
      // From here on connections are the daemon's alone.
      listener.close();
      const running = runGuest({
        network: true,
        timeoutSeconds: 240,
        script: `set -e
          nbd_connect ${port} /dev/nbd0 -N v0 -b 4096
          blockdev --getsize64 /dev/nbd0
          mkfs.ext4 -q -F /dev/nbd0
          mkdir -p /tmp/m
          mount -t ext4 /dev/nbd0 /tmp/m
          dd if=/dev/urandom of=/tmp/m/random bs=1M count=8 conv=fsync 2> /dev/null
          touch /tmp/m/grow-now
          sync
          # Growing on the other side takes less time than this, which is written all along.
          for i in $(seq 40); do dd if=/dev/urandom of=/tmp/m/f$i bs=64k count=4 conv=fsync 2> /dev/null; done
          sha256sum < /tmp/m/random
          umount /tmp/m
          nbd-client -d /dev/nbd0
          nbd_connect ${port} /dev/nbd0 -N v0 -b 4096
          blockdev --getsize64 /dev/nbd0
          e2fsck -fn /dev/nbd0
          nbd-client -d /dev/nbd0
          ! dmesg | grep -i 'nbd0.*error'`,
      });
      // The guest writes when the volume has more than the metadata of an empty file system.
      let isOver = false;
      void running.finally(() => {
        isOver = true;
      });
      for (let isWriting = false; !isWriting && !isOver; ) {
        const [entry] = JSON.parse((await commands.vdostats("--json")).out) as { stats: { dataBlocksUsed: number } }[];
        isWriting = (entry?.stats.dataBlocksUsed ?? 0) > 2048;
        if (!isWriting) await new Promise((resolve) => setTimeout(resolve, 100));
      }
      await must("growLogical", "--name=v0", "--vdoLogicalSize=8G");
      await must("growPhysical", "--name=v0", "--vdoPhysicalSize=4G");
      const guest = await running;
      expect(guest.exitCode, `${guest.output}${guest.console}`).toBe(0);
      const lines = guest.output.split("\n").map((line) => line.trim());
      expect(lines).toContain(String(GIB));
      expect(lines).toContain(String(8 * GIB));
      sum = /^[0-9a-f]{64}/m.exec(guest.output)?.[0] ?? "";
      expect(sum).not.toBe("");
      await must("stop", "--name=v0");
      if (daemon.exitCode === null) await once(daemon, "exit");
      expect(daemon.exitCode).toBe(0);
      await must("audit", "--name=v0");
    });

    test("is opened by the kernel's dm-vdo, grown, with the same file system", async () => {
      const guest = await runGuest({
        disks: [image],
        script: `set -e
          audit /dev/vda
          vdo_start vdo0 /dev/vda
          blockdev --getsize64 /dev/mapper/vdo0
          e2fsck -fn /dev/mapper/vdo0
          mkdir -p /tmp/m
          mount -t ext4 -o ro /dev/mapper/vdo0 /tmp/m
          sha256sum < /tmp/m/random
          umount /tmp/m
          vdo_stop vdo0`,
      });
      expect(guest.exitCode, `${guest.output}${guest.console}`).toBe(0);
      expect(guest.output.split("\n").map((line) => line.trim())).toContain(String(8 * GIB));
      expect(guest.output.match(/^[0-9a-f]{64}/gm)).toEqual([sum]);
    });
  },
  { describe, test },
);
