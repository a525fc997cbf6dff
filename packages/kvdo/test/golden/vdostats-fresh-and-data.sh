set -e
ls /sys/dev/block | head -1 >/dev/null
vdoformat --version || true
vdoformat --slab-bits=15 --logical-size=20G --verbose /dev/vda
S=$(blockdev --getsz /dev/vda)
PB=$((S/8))
dmsetup create vdo0 --table "0 $((20*1024*1024*2)) vdo V4 /dev/vda $PB 4096 32768 16380 compression on deduplication on"
i=0; while ! dmsetup status vdo0 | grep -q online; do i=$((i+1)); [ $i -gt 100 ] && break; sleep 0.2; done
sleep 1
dmsetup status vdo0
echo "=== FRESH stats"
dmsetup message vdo0 0 stats
echo "=== FRESH verbose"
vdostats --verbose
echo "=== FRESH table"
vdostats; vdostats --human-readable; vdostats --si
D=/dev/mapper/vdo0
dd if=/dev/urandom of=/tmp/r bs=1M count=8 2>/dev/null
dd if=/tmp/r of=$D bs=1M oflag=direct 2>/dev/null
dd if=/tmp/r of=$D bs=1M seek=64 oflag=direct 2>/dev/null
i=0; : > /tmp/c; while [ $i -lt 512 ]; do printf 'line %07d\n' $i; dd if=/dev/zero bs=4084 count=1 2>/dev/null| tr '\0' 'x'; i=$((i+1)); done > /tmp/c
dd if=/tmp/c of=$D bs=1M seek=128 oflag=direct 2>/dev/null
dd if=/dev/zero of=$D bs=1M seek=256 count=4 oflag=direct 2>/dev/null
dd if=$D of=/dev/null bs=1M count=4 iflag=direct 2>/dev/null
sleep 1
echo "=== DATA stats"
dmsetup message vdo0 0 stats
echo "=== DATA verbose"
vdostats --verbose vdo0
echo "=== DATA config"
dmsetup message vdo0 0 config
dmsetup remove vdo0
echo "=== END"
