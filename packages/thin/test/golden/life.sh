# The life of a pool: metadata on /dev/vda (8 MiB), data on /dev/vdb (320 MiB), 64 KiB blocks.
set -e
D=$(( $(blockdev --getsz /dev/vdb) ))
pool() { dmsetup message pool 0 "$1"; }
thin() { dmsetup create "t$1" --table "0 262144 thin /dev/mapper/pool $1"; }
put() { dd if=/dev/zero bs=64k of="/dev/mapper/t$1" seek="$2" count="$3" oflag=direct conv=fsync 2> /dev/null; }
dmsetup create pool --table "0 $D thin-pool /dev/vda /dev/vdb 128 0 0"
pool "create_thin 0"
thin 0
put 0 0 3
put 0 10 1
dmsetup suspend t0; pool "create_snap 1 0"; dmsetup resume t0
thin 1
dd if=/dev/zero bs=4k of=/dev/mapper/t1 seek=16 count=1 oflag=direct conv=fsync 2> /dev/null
dmsetup suspend t1; pool "create_snap 2 1"; dmsetup resume t1
dmsetup suspend t0; pool "create_snap 3 0"; pool "create_snap 4 0"; pool "create_snap 5 0"; dmsetup resume t0
for i in 2 3 4 5; do thin $i; put $i $((20 + i)) 1; done
pool "create_thin 10"
thin 10
# In pieces that take less than a second each: the kernel commits by itself a second after the last commit.
for i in $(seq 0 43); do put 10 $((i * 25)) 25; done
dmsetup suspend t10; pool "create_snap 11 10"; dmsetup resume t10
pool "set_transaction_id 0 7"
pool "reserve_metadata_snap"
blkdiscard -o $((100 * 65536)) -l $((50 * 65536)) /dev/mapper/t10
sync
dmsetup status pool
for t in 0 1 2 3 4 5 10; do dmsetup status t$t; dmsetup remove t$t; done
dmsetup remove pool
thin_check /dev/vda
