set -e
vdoformat --slab-bits=15 --logical-size=20G /dev/vda
T="0 $((20*1024*1024*2)) vdo V4 /dev/vda $(($(blockdev --getsz /dev/vda)/8)) 512 32768 16380 compression on deduplication on"
start() { dmsetup create vdo0 --table "$T"; i=0; while ! dmsetup status vdo0 | grep -q online; do i=$((i+1)); [ $i -gt 30 ] && break; sleep 0.2; done; }
start
dd if=/dev/urandom of=/dev/mapper/vdo0 bs=1M count=8 oflag=direct 2>/dev/null
dd if=/dev/urandom of=/dev/mapper/vdo0 bs=512 seek=100001 count=3 oflag=direct 2>/dev/null
dmsetup remove vdo0
vdoreadonly /dev/vda
start
dmsetup status vdo0
echo "=== stats"
dmsetup message vdo0 0 stats
echo "=== verbose"
vdostats --verbose vdo0
echo "=== end"
