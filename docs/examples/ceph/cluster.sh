#!/bin/bash
# A Ceph cluster of one machine in one folder, for trials: one monitor, one OSD on a file, and an RBD image served over NBD.
#
#   cluster.sh up FOLDER [IMAGE_SIZE]   makes the cluster, starts it, serves the image; prints the NBD URI
#   cluster.sh stop-osd FOLDER | start-osd FOLDER | stop-nbd FOLDER | start-nbd FOLDER
#   cluster.sh down FOLDER              stops everything; the folder can be deleted then
#
# Debian 12: apt-get install --no-install-recommends ceph-mon ceph-osd ceph-common qemu-utils qemu-block-extra
# No authentication, no replicas, all data in a sparse file: not for data that matters.
set -euo pipefail
action=${1:?up, down, stop-osd, start-osd, stop-nbd or start-nbd}
folder=$(realpath -m "${2:?a folder}")
size=${3:-8G}
port=${CEPH_PORT:-16789}
conf=$folder/ceph.conf
export CEPH_CONF=$conf

configure() {
  mkdir -p "$folder"/{mon,osd,run,log}
  cat > "$conf" << END
[global]
fsid = $(cat /proc/sys/kernel/random/uuid)
mon host = [v1:127.0.0.1:$port]
ms bind ipv4 = true
ms bind ipv6 = false
public network = 127.0.0.0/8
auth cluster required = none
auth service required = none
auth client required = none
mon data = $folder/mon
osd data = $folder/osd
run dir = $folder/run
admin socket = $folder/run/\$name.\$pid.asok
pid file = $folder/run/\$name.pid
log file = $folder/log/\$name.log
crash dir = $folder/run
osd pool default size = 1
osd pool default min size = 1
mon allow pool size one = true
mon warn on pool no redundancy = false
osd crush chooseleaf type = 0
osd objectstore = bluestore
bluestore block size = $((24 * 1024 ** 3))
osd memory target = 939524096
osd class load list = *
osd class update on start = false
osd crush update on start = false
rbd default features = 1
END
}

# Without authentication a client may be faster than the map of monitors that it needs, and is refused: it is asked again.
tell() {
  for _ in $(seq 50); do ceph -c "$conf" --connect-timeout 10 "$@" 2> "$folder/log/tell" && return; sleep 0.2; done
  cat "$folder/log/tell" >&2
  return 1
}

start_mon() { ceph-mon -i a -c "$conf"; }

make_mon() {
  fsid=$(sed -n 's/^fsid = //p' "$conf")
  monmaptool --create --fsid "$fsid" --addv a "[v1:127.0.0.1:$port]" "$folder/monmap" > /dev/null
  ceph-mon --mkfs -i a -c "$conf" --monmap "$folder/monmap"
  start_mon
}

make_osd() {
  local uuid
  uuid=$(cat /proc/sys/kernel/random/uuid)
  tell osd new "$uuid" > "$folder/osd.id"
  ceph-osd -i "$(cat "$folder/osd.id")" -c "$conf" --mkfs --osd-uuid "$uuid" > /dev/null 2>&1
  tell osd crush add "$(cat "$folder/osd.id")" 1 root=default host=here
  start_osd
  tell osd pool create rbd 8
}

start_osd() { ceph-osd -i "$(cat "$folder/osd.id")" -c "$conf" > /dev/null 2>&1; }

start_nbd() {
  # --persistent: every command of vdo connects. One client at a time is the default, and is what keeps two machines apart.
  qemu-nbd --fork --persistent --pid-file="$folder/run/nbd.pid" --socket="$folder/nbd.sock" --format=raw --discard=unmap \
    --cache=none "rbd:rbd/vdo0:conf=$conf"
}

# stop NAME [SIGNAL]
stop() {
  local file=$folder/run/$1.pid pid
  [ -f "$file" ] || return 0
  pid=$(cat "$file")
  kill "-${2:-TERM}" "$pid" 2> /dev/null || true
  for _ in $(seq 300); do kill -0 "$pid" 2> /dev/null || break; sleep 0.1; done
  rm -f "$file"
}

case $action in
  up)
    configure
    make_mon
    make_osd
    rbd -c "$conf" create --size "$size" rbd/vdo0
    start_nbd
    tell osd stat >&2
    echo "nbd+unix:///?socket=$folder/nbd.sock"
    ;;
  stop-osd) stop "osd.$(cat "$folder/osd.id")" "${3:-TERM}" ;;
  start-osd) start_osd ;;
  stop-nbd) stop nbd "${3:-TERM}"; rm -f "$folder/nbd.sock" ;;
  start-nbd) start_nbd ;;
  down)
    stop nbd
    if [ -s "$folder/osd.id" ]; then stop "osd.$(cat "$folder/osd.id")"; fi
    stop mon.a
    ;;
  *) echo "unknown action $action" >&2; exit 2 ;;
esac
