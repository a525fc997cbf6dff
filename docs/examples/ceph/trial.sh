#!/bin/bash
# A VDO volume on an RBD image of a Ceph cluster of one machine: written, deduplicated, hit by faults, audited, given back.
# Run it in a built checkout: docs/examples/ceph/trial.sh [FOLDER]. What it needs is in cluster.sh, and libnbd-bin.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
root=$(realpath "$here/../../..")
kept=${1:-}
folder=$(realpath -m "${1:-$(mktemp -d /tmp/vdo-ceph-XXXXXX)}")
cluster() { "$here/cluster.sh" "$1" "$folder" "${@:2}"; }
vdo() { node "$root/apps/vdo/bin/vdo.js" "$@"; }
say() { printf '\n== %s\n' "$*"; }
timed() { local start=$EPOCHREALTIME; "$@"; awk "BEGIN { printf \"   (%.1f s)\\n\", $EPOCHREALTIME - $start }"; }
export VDO_CONF_DIR=$folder VDO_RUN_DIR=$folder/vdo VDO_LOG_DIR=$folder/log VDO_DEV_DIR=$folder/dev
mkdir -p "$folder"
trap 'vdo stop --name=v0 --force > /dev/null 2>&1 || true; cluster down; [ -n "$kept" ] || rm -rf "$folder"' EXIT
volume="nbd+unix:///v0?socket=$folder/vdo/v0/nbd.sock"
# What the OSD has allocated for all objects; its own count, since there is no manager to gather any.
used() {
  ceph --admin-daemon "$(ls "$folder"/run/osd.*.asok | tail -1)" perf dump bluestore |
    awk '/"bluestore_allocated"/ { gsub(/[^0-9]/, "", $2); printf "%.0f MiB\n", $2 / 1048576 }'
}

say "the cluster"
uri=$(cluster up 8G)

say "256 MiB of real files into the image itself, for comparison"
{ tar -C "$root" -cf - node_modules 2> /dev/null || true; } | head -c 268435456 > "$folder/data"
cat "$folder/data" "$folder/data" > "$folder/twice"
timed nbdcopy --flush "$folder/data" "$uri"

say "the volume"
vdo create --name=v0 --device="$uri" --vdoLogicalSize=20G --vdoSlabSize=128M --discardStorage=enabled --attach=none --force

say "the same 256 MiB twice into the volume"
timed nbdcopy --flush "$folder/twice" "$volume"
node "$root/apps/vdostats/bin/vdostats.js" --human-readable

say "qemu-nbd is killed under load and started again, then the OSD"
nbdcopy --flush "$folder/twice" "$volume" &
copy=$!
sleep 1; cluster stop-nbd KILL; sleep 2; cluster start-nbd
sleep 2; cluster stop-osd KILL; sleep 5; cluster start-osd
timed wait "$copy"
grep -E 'lost|connected again' "$folder/log/v0.log"

say "what is there, after the daemon was killed, too"
kill -KILL "$(cat "$folder/vdo/v0/pid")"
vdo start --name=v0
cmp --bytes=536870912 <(nbdcopy "$volume" - 2> /dev/null) "$folder/twice" && echo "every byte is right"
vdo stop --name=v0
vdo audit --name=v0

say "discarded, and given back to the cluster"
echo "before: $(used)"
vdo start --name=v0
qemu-io -f raw -c 'discard 0 512M' -c flush "$volume"
vdo stop --name=v0
echo "after:  $(used)"
vdo audit --name=v0
