/**
 * The kernel's own NBD client, in the guest, on our server outside: a file system, verified random writes, discards. Then
 * the server is gone and the kernel's own dm-vdo opens the same image and finds the same file system.
 */
import { FileDevice } from "@vdo/block-device";
import { format } from "@vdo/kvdo";
import { NbdServer } from "@vdo/nbd";
import { describeWithKernel, runGuest } from "@vdo/oracle";
import { afterAll, describe, expect, test } from "vitest";
import { Workplace } from "./support/workplace.ts";

describeWithKernel(
  "a volume served to the kernel's nbd-client",
  () => {
    const workplace = new Workplace();
    afterAll(() => workplace.remove());
    const image = workplace.image("vdo.img", 4 * 2 ** 30);
    let sum = "";

    test("carries a file system, keeps verified random writes, and takes discards", async () => {
      const device = await FileDevice.open({ path: image });
      await format(device, { logicalSize: 2 * 2 ** 30, slabBits: 13, indexMemory: 0.25 });
      await device.close();
      const guest = await workplace.withVolume(image, {}, async (volume) => {
        const server = new NbdServer({ exports: [{ name: "vdo0", device: volume }] });
        const address = await server.listen({ host: "127.0.0.1", port: 0 });
        const port = "port" in address ? address.port : 0;
        try {
          return await runGuest({
            network: true,
            timeoutSeconds: 240,
            script: `set -e
              nbd_connect ${port} /dev/nbd0 -N vdo0 -b 4096 -C 2
              for f in logical_block_size write_cache fua; do echo "$f $(cat /sys/block/nbd0/queue/$f)"; done
              fio --name=v --filename=/dev/nbd0 --direct=1 --rw=randwrite --bs=4k --offset=1g --size=8m --iodepth=16 \\
                --ioengine=libaio --verify=crc32c --verify_fatal=1 --output=/dev/null
              blkdiscard -o 1073741824 -l 8388608 /dev/nbd0
              dd if=/dev/nbd0 bs=1M skip=1024 count=8 iflag=direct 2> /dev/null | cmp -n 8388608 - /dev/zero
              mkfs.ext4 -q -F /dev/nbd0
              mkdir -p /tmp/m
              mount -t ext4 -o discard /dev/nbd0 /tmp/m
              dd if=/dev/urandom of=/tmp/m/random bs=1M count=16 conv=fsync 2> /dev/null
              cp /tmp/m/random /tmp/m/copy
              sha256sum < /tmp/m/random
              umount /tmp/m
              e2fsck -fn /dev/nbd0
              mount -t ext4 /dev/nbd0 /tmp/m
              sha256sum < /tmp/m/copy
              umount /tmp/m
              nbd-client -d /dev/nbd0
              ! dmesg | grep -i 'nbd0.*error'`,
          });
        } finally {
          await server.close();
        }
      });
      expect(guest.exitCode, guest.output).toBe(0);
      expect(guest.output).toMatch(/logical_block_size 4096\s+write_cache write back\s+fua 1/);
      const sums = guest.output.match(/^[0-9a-f]{64}/gm) ?? [];
      expect(sums).toHaveLength(2);
      expect(sums[1]).toBe(sums[0]);
      sum = sums[0] as string;
    });

    test("is opened by the kernel's dm-vdo with the same file system", async () => {
      const guest = await runGuest({
        disks: [image],
        script: `set -e
          audit /dev/vda
          vdo_start vdo0 /dev/vda
          e2fsck -fn /dev/mapper/vdo0
          mkdir -p /tmp/m
          mount -t ext4 -o ro /dev/mapper/vdo0 /tmp/m
          sha256sum < /tmp/m/copy
          umount /tmp/m
          vdo_stop vdo0`,
      });
      expect(guest.exitCode, guest.output).toBe(0);
      expect(guest.output.match(/^[0-9a-f]{64}/gm)).toEqual([sum]);
    });
  },
  { describe, test },
);
