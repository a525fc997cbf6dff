import { SimulatedDisk } from "@vdo/block-device/testing";

const disk = new SimulatedDisk({ blockCount: 1024, seed: 1 });
const block = (value: number): Uint8Array => new Uint8Array(4096).fill(value);

await disk.write(0, block(1));
await disk.flush();
await disk.write(0, block(2));

// The power fails. Each seed is one of the things that may be left: every sector old or new.
const found = new Set<string>();
for (let seed = 0; seed < 200; seed++) {
  const after = disk.crash(seed);
  const target = block(0);
  await after.read(0, target);
  found.add([...new Set(target)].sort().join(" and "));
}
console.log([...found].sort().join(", "));
// 1, 1 and 2, 2
