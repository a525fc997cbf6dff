/** What is measured, as options of fio. All servers export 16 GiB; random workloads use the first 512 MiB. */

export interface Workload {
  name: string;
  /** What one operation is. */
  unit: string;
  /** fio options besides server, seed and time. */
  fio: readonly string[];
  /** Runs once through instead of for a slice: the result is its duration. */
  whole?: boolean;
}

const MIX = ["--dedupe_percentage=50", "--buffer_compress_percentage=50", "--buffer_compress_chunk=4096"];
const RANDOM = ["--bs=4k", "--size=512m", "--norandommap", "--random_generator=tausworthe64"];
const UNIQUE = ["--refill_buffers"];

export const WORKLOADS: readonly Workload[] = [
  {
    name: "sequential write 64k, unique",
    unit: "64 KiB",
    fio: ["--rw=write", "--bs=64k", "--iodepth=16", "--size=1g", "--offset=1g", ...UNIQUE],
  },
  {
    name: "sequential write 64k, 50 % duplicate 50 % compressible",
    unit: "64 KiB",
    fio: ["--rw=write", "--bs=64k", "--iodepth=16", "--size=1g", "--offset=1g", ...MIX],
  },
  {
    name: "sequential write 64k, zeros",
    unit: "64 KiB",
    fio: ["--rw=write", "--bs=64k", "--iodepth=16", "--size=1g", "--offset=2g", "--zero_buffers"],
  },
  {
    name: "random write 4k, depth 1",
    unit: "4 KiB",
    fio: ["--rw=randwrite", "--iodepth=1", ...RANDOM, ...UNIQUE],
  },
  {
    name: "random write 4k, depth 32",
    unit: "4 KiB",
    fio: ["--rw=randwrite", "--iodepth=32", ...RANDOM, ...UNIQUE],
  },
  {
    name: "random read 4k, depth 1",
    unit: "4 KiB",
    fio: ["--rw=randread", "--iodepth=1", ...RANDOM],
  },
  {
    name: "random read 4k, depth 32",
    unit: "4 KiB",
    fio: ["--rw=randread", "--iodepth=32", ...RANDOM],
  },
  {
    name: "random write 4k, flush after each",
    unit: "4 KiB",
    fio: ["--rw=randwrite", "--iodepth=1", "--fsync=1", ...RANDOM, ...UNIQUE],
  },
  {
    name: "discard of 10 GiB, empty",
    unit: "64 MiB",
    fio: ["--rw=trim", "--bs=64m", "--iodepth=4", "--offset=4g", "--size=10g"],
    whole: true,
  },
];

/** Fills the area of the random workloads with unique data, once a server; it also warms every server up. */
export const FILL: readonly string[] = ["--rw=write", "--bs=64k", "--iodepth=16", "--size=512m", ...UNIQUE];

/** Maps 10 GiB with few distinct blocks, so that it fits; then the range is discarded. Ours alone: the peers would store it all. */
export const FILL_TO_DISCARD: readonly string[] = [
  ...["--rw=write", "--bs=256k", "--iodepth=8", "--offset=4g", "--size=10g"],
  "--buffer_pattern=0x5a17c3e9",
];
