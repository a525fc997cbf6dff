#!/bin/bash
# Builds the guest in the folder $1: vmlinuz and initrd.gz, from Debian packages that are downloaded but not installed,
# and from programs of this machine. Needs no root. Called by src/setup.ts, which checks the programs and holds the lock.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=$1
export PATH="$PATH:/usr/sbin:/sbin"
say() { echo "oracle: $*" >&2; }

# The suite with kernel 6.12 (dm-vdo came with 6.9) and the vdo tools, read beside the suites this machine is set to.
suite=${VDO_ORACLE_SUITE:-bookworm-backports}
uri=$(apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' | awk '$1 == "Debian" && $2 !~ /security/ { print $2; exit }')
uri=${uri:-http://deb.debian.org/debian/}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
mkdir -p "$dir"/apt/lists/partial "$dir"/apt/cache/archives/partial "$dir"/debs
echo "deb [signed-by=$keyring] $uri $suite main" > "$dir/apt/sources.list"
apt=(-o "Dir::Etc::sourcelist=$dir/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::Lists=$dir/apt/lists"
  -o "Dir::Cache=$dir/apt/cache" -o APT::Sandbox::User= -o Acquire::Retries=3)
say "reading the package list of $suite from $uri"
apt-get "${apt[@]}" update -qq
version=$(apt-cache "${apt[@]}" depends linux-image-amd64 | awk '/Depends: linux-image-/ { sub("linux-image-", "", $2); print $2; exit }')
say "downloading the kernel $version and the vdo tools"
(cd "$dir/debs" && rm -f ./*.deb && apt-get "${apt[@]}" download -qq "linux-image-$version-unsigned" vdo)

say "unpacking"
rm -rf "$dir"/{kernel,tools,root}
root=$dir/root
mkdir -p "$root"/{bin,proc,sys,dev,tmp,run,etc,mnt,lib64}
ln -s bin "$root/sbin"
dpkg -x "$dir"/debs/linux-image-*.deb "$dir/kernel"
dpkg -x "$dir"/debs/vdo_*.deb "$dir/tools"
cp "$dir"/kernel/boot/vmlinuz-* "$dir/vmlinuz"
[ -d "$dir/kernel/lib/modules" ] || ln -s usr/lib "$dir/kernel/lib"

# Modules, with what they depend on. modprobe in the guest finds them by name and alias, and so does the kernel.
depmod -b "$dir/kernel" "$version"
modules="virtio_pci virtio_blk virtio_net 9p 9pnet_virtio dm-mod dm-vdo dm-thin-pool dm-log-writes dm-flakey nbd loop ext4 xfs"
mkdir -p "$root/lib/modules/$version/kernel"
for module in $modules crc32c_generic crc32c-intel; do
  modprobe -d "$dir/kernel" -S "$version" --show-depends "$module" 2>/dev/null | awk '/^insmod/ { print $2 }' || true
done | sort -u | while read -r file; do
  name=$(basename "$file"); target=$root/lib/modules/$version/kernel/${name%.xz}
  case $file in *.xz) xz -dc "$file" > "$target" ;; *) cp "$file" "$target" ;; esac
done
cp "$dir/kernel/lib/modules/$version"/modules.{builtin,builtin.modinfo,order} "$root/lib/modules/$version/"
depmod -b "$root" "$version"

# Programs: busybox for the small ones, then the real ones with the shared libraries they load.
put() {
  local file; file=$(readlink -f "$1")
  rm -f "$root/bin/$2"; cp "$file" "$root/bin/$2"
  { ldd "$file" 2> /dev/null || true; } | awk '/=>/ { print $3 } /ld-linux/ { print $1 }' | while read -r library; do
    mkdir -p "$root$(dirname "$library")"; cp -Lu "$library" "$root$library"
  done
}
put "$(command -v busybox)" busybox
for applet in $(busybox --list); do [ "$applet" = busybox ] || ln -sf busybox "$root/bin/$applet"; done
for program in dmsetup blockdev blkdiscard fio mkfs.ext4 e2fsck nbd-client dd sha256sum cmp od seq date; do
  put "$(command -v "$program")" "$program"
done
for program in mkfs.xfs xfs_repair thin_check thin_dump thin_restore thin_ls thin_delta thin_rmap; do
  if command -v "$program" > /dev/null; then put "$(command -v "$program")" "$program"; fi
done
for program in "$dir"/tools/usr/bin/*; do
  if [ "$(head -c 4 "$program" | tail -c 3)" = ELF ]; then put "$program" "$(basename "$program")"; fi
done
install -m 755 "$here/init" "$root/init"

say "packing"
(cd "$root" && find . | cpio -o -H newc -R 0:0 --quiet | gzip -1 > "$dir/initrd.part" && mv "$dir/initrd.part" "$dir/initrd.gz")
echo "$version" > "$dir/version"
rm -rf "$dir"/{kernel,tools,root,debs,apt}
say "ready: Debian kernel $version in $dir"
