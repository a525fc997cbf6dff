# Helpers for scripts in the guest: every script begins with them (src/machine.ts). Disks are /dev/vda, /dev/vdb, … in order.

# super_block_u64 DEVICE OFFSET: a field of the super block of a volume with a geometry block of version 5.0. The data region
# begins at the block that the geometry block tells at byte 80, less the bio offset at byte 56 (Linux 6.12, dm-vdo).
super_block_u64() {
  _start=$(block_u64 "$1" 0 80)
  _shift=$(block_u64 "$1" 0 56)
  block_u64 "$1" $((_start - _shift)) "$2"
}

# block_u64 DEVICE BLOCK OFFSET. (od alone would read a block device from its beginning instead of seeking.)
block_u64() { dd if="$1" bs=4096 skip="$2" count=1 2> /dev/null | od -An -tu8 -j "$3" -N 8 | tr -d ' '; }

# vdo_logical DEVICE, vdo_physical DEVICE: sizes in blocks, as the super block tells them.
vdo_logical() { super_block_u64 "$1" 60; }
vdo_physical() { super_block_u64 "$1" 68; }

# vdo_table DEVICE [FEATURES…]: the V4 table line. Features default to deduplication and compression on.
vdo_table() {
  _device=$1; shift
  echo "0 $(($(vdo_logical "$_device") * 8)) vdo V4 $_device $(vdo_physical "$_device") 4096 32768 16380 ${*:-deduplication on compression on}"
}

# vdo_start NAME DEVICE [FEATURES…]: starts the volume as /dev/mapper/NAME and waits for its index, if it has one open.
vdo_start() {
  _name=$1; _device=$2; shift 2
  dmsetup create "$_name" --table "$(vdo_table "$_device" "$@")" || return 1
  case "$*" in *"deduplication off"*) ;; *) vdo_wait_index "$_name" ;; esac
}

# vdo_wait_index NAME: waits up to 60 s until the index is online.
vdo_wait_index() {
  _tries=0
  while [ "$(dmsetup status "$1" | cut -d ' ' -f 7)" != online ]; do
    _tries=$((_tries + 1)); [ $_tries -lt 300 ] || { echo "index of $1 does not come online: $(dmsetup status "$1")"; return 1; }
    sleep 0.2
  done
}

# vdo_stop NAME: stops the volume cleanly.
vdo_stop() { dmsetup remove "$1"; }

# vdo_stat NAME LABEL: one figure of `vdostats --verbose`, for example: vdo_stat vdo0 "data blocks used".
vdo_stat() { vdostats --verbose "$1" | sed -n "s/^ *$2 *: *//p" | head -n 1; }

# blocks_sum DEVICE START COUNT: SHA-256 of COUNT blocks of 4096 bytes from block START.
blocks_sum() {
  dd if="$1" bs=1M skip=$(($2 * 4096)) count=$(($3 * 4096)) iflag=direct,skip_bytes,count_bytes 2> /dev/null |
    sha256sum | cut -d ' ' -f 1
}

# copy_blocks SOURCE SKIP TARGET SEEK COUNT: copies blocks of 4096 bytes and waits until they are durable.
copy_blocks() {
  dd if="$1" of="$3" bs=64k skip=$(($2 * 4096)) seek=$(($4 * 4096)) count=$(($5 * 4096)) \
    iflag=skip_bytes,count_bytes oflag=direct,seek_bytes conv=fsync,notrunc 2> /dev/null
}

# discard_blocks DEVICE START COUNT
discard_blocks() { blkdiscard -o $(($2 * 4096)) -l $(($3 * 4096)) "$1"; }

# audit DEVICE: vdoaudit of a volume that is not running; fails if it finds anything.
audit() { vdoaudit "$1"; }

# nbd_connect PORT DEVICE [OPTIONS…]: the kernel's client, connected to a server on the host's loopback (needs the network).
nbd_connect() {
  modprobe nbd; _port=$1; _nbd=$2; shift 2
  nbd-client 10.0.2.2 "$_port" "$_nbd" -timeout 60 "$@"
}

# cut_power: the machine is gone at once, with whatever was in flight.
cut_power() { echo 1 > /proc/sys/kernel/sysrq; echo b > /proc/sysrq-trigger; sleep 60; }
