#!/bin/bash
# The suite of escapes inside other kernels: Debian's own, booted by qemu, with control groups of version 2, all their controllers, and a disk.
#
# Usage: run.sh SAFELIGHT SUITE
#   SAFELIGHT  the program, at the path for which the suite was built
#   SUITE      the suite's test binary
#
# Each kernel gets a file system with the program, the suite and what both need of this host's /usr; nothing is downloaded but the kernels'
# packages, which are kept in KERNELS_DIR. The guest's answer is its console. A kernel that cannot be had, a guest that does not come to its
# end, a test that fails, is skipped or does not exist: each fails the run, by name. What a kernel is too old for is left out, by name too.
#
# KERNELS_ONLY="6.1" runs one of them, KERNELS_TESTS="kernel:: life::" these tests only, KERNELS_KVM=1 with the processor's help.
set -euo pipefail

# What a kernel is asked for by its meta package, and the Landlock ABI that it must have.
KERNELS=("linux-image-cloud-amd64 6.1 2" "linux-image-6.12-cloud-amd64 6.12 6")
# What must pass in each guest: all of the suite but what concerns only its own source.
TESTS=${KERNELS_TESTS:-walls:: explain:: life:: results:: kernel:: refusals::}
# How long a guest may take in all, in seconds. The processor is emulated, which works wherever qemu does.
PATIENCE=${KERNELS_PATIENCE:-2400}

safelight=$(realpath "$1") suite=$(realpath "$2")
here=$(dirname "$(realpath "$0")") source=$(realpath "$here/../..")
keep=${KERNELS_DIR:-$(dirname "$safelight")/../kernels}
mkdir -p "$keep"; keep=$(realpath "$keep")
work=$(mktemp -d /var/tmp/safelight-kernels-XXXXXX)
trap 'rm -rf "$work"' EXIT

# The package that a meta package stands for, unpacked below $keep; its directory on standard output.
kernel() {
  local package
  package=$(apt-cache depends "$1" | awk '/Depends: linux-image-[0-9]/ { print $2; exit }')
  [ -n "$package" ] || { echo "no package for $1: apt-get update, or another Debian" >&2; return 1; }
  if [ ! -d "$keep/$package" ]; then
    rm -rf "$keep/.new"; mkdir "$keep/.new"
    (cd "$keep/.new" && apt-get download -q "$package" >/dev/null 2>&1 && dpkg-deb -x "$package"_*.deb . && rm ./*.deb) ||
      { echo "$package cannot be downloaded" >&2; return 1; }
    mv "$keep/.new" "$keep/$package"
  fi
  echo "$keep/$package"
}

# What a program needs to run, besides itself.
libraries() { { ldd "$1" 2>/dev/null || true; } | { grep -o '/[^ ]*' || true; } | xargs -r sh -c 'realpath -s "$@"; realpath "$@"' _; }

# The guest's files, the same for each kernel.
guest() {
  local root=$work/root program file python
  python=$(basename "$(realpath /usr/bin/python3)")
  mkdir -p "$root"/{proc,sys,dev,tmp,run,etc,root,modules,var/tmp,usr/bin,usr/sbin,usr/lib64,usr/lib/x86_64-linux-gnu}
  for file in bin sbin lib lib64; do ln -s "usr/$file" "$root/$file"; done
  {
    for package in coreutils util-linux mount iproute2 dash bash grep sed findutils python3-minimal "$python-minimal" "lib$python-minimal" \
      "lib$python-stdlib" libc6 libc-bin login; do
      dpkg -L "$package" | grep -Ev '^/usr/share/(doc|man|locale|lintian|bash-completion|bug)|^/etc/' || true
    done
  } | sort -u | while read -r file; do
    [ -d "$file" ] && [ ! -L "$file" ] || echo "$file"
  done > "$work/files"
  for program in "$safelight" "$suite" /bin/bash /bin/grep /bin/sed /bin/mount /bin/ls /bin/cp /bin/ip /usr/bin/find /usr/bin/sort /usr/bin/setpriv \
    /usr/bin/unshare "/usr/bin/$python" /usr/lib/"$python"/lib-dynload/*.so; do libraries "$program"; done | sort -u >> "$work/files"
  # A file of /bin is one of /usr/bin where the two are one.
  sed -E 's#^/(bin|sbin|lib|lib64)/#/usr/\1/#' "$work/files" | sort -u | (cd / && sed 's#^/##' | cpio -pdm --quiet "$root" 2>/dev/null) || true
  ln -sf bash "$root/usr/bin/sh"
  # What a host has that somebody may want to read, or to change.
  cp -L /usr/lib/os-release "$root/usr/lib/os-release"; mkdir -p "$root/usr/local/lib"
  install -m 640 /dev/null "$root/etc/shadow"
  cp /bin/busybox "$root/usr/bin/busybox"
  cp /etc/ld.so.conf "$root/etc/"; ldconfig -r "$root" 2>/dev/null || true
  printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n' > "$root/etc/passwd"
  printf 'root:x:0:\nnogroup:x:65534:\n' > "$root/etc/group"
  echo guest > "$root/etc/hostname"
  # The suite looks for both where they were when it was built.
  mkdir -p "$root$(dirname "$safelight")" "$root$source/docs"
  strip -o "$root$safelight" "$safelight"
  strip -o "$root/usr/bin/suite" "$suite"
  chmod 755 "$root/usr/bin/suite"
  cp "$source/docs/threats.md" "$root$source/docs/"
  cp "$here/guest.sh" "$root/init"; chmod 755 "$root/init"
  printf '%s\n' $TESTS > "$root/etc/tests"
}

# The disk of one kernel: the guest's files, and what that kernel has as a module.
disk() {
  local modules=$1 to=$2
  rm -f "$work"/root/modules/* "$to"
  # Views; a network interface and a family of sockets that a host has, which must not be found or used from inside.
  find "$modules" \( -name 'fuse.ko*' -o -name 'dummy.ko*' -o -name 'vsock.ko*' \) -exec cp {} "$work/root/modules/" \;
  find "$work/root/modules" -name '*.xz' -exec xz -d {} \;
  # Owners are root's, whoever runs this; room for what the tests write, which is a hole until they do.
  mke2fs -q -t ext4 -E root_owner=0:0 -d "$work/root" "$to" 3G
}

failed=0
guest
for line in "${KERNELS[@]}"; do
  read -r meta name abi <<< "$line"
  [[ " ${KERNELS_ONLY:-$name} " == *" $name "* ]] || continue
  directory=$(kernel "$meta") || { echo "kernel $name: NOT RUN"; failed=1; continue; }
  disk "$directory/lib/modules" "$work/disk"
  accelerator=tcg,thread=multi
  [ -n "${KERNELS_KVM:-}" ] && accelerator=kvm
  echo "kernel $name: $(basename "$directory"), $accelerator"
  console=$keep/console-$name; : > "$console"
  timeout "$PATIENCE" qemu-system-x86_64 -accel "$accelerator" -cpu max,arch-capabilities=off -smp 2 -m 4G -nodefaults -no-user-config -display none \
    -no-reboot -serial "file:$console" -kernel "$directory"/boot/vmlinuz-* \
    -drive "file=$work/disk,format=raw,if=none,id=disk,cache=unsafe" -device nvme,drive=disk,serial=guest \
    -append "console=ttyS0 root=/dev/nvme0n1 rw rootwait init=/init panic=-1 quiet loglevel=1 safelight.abi=$abi" </dev/null || true
  tr -d '\r' < "$console" > "$work/console"
  grep -aE '^(guest:|test .* \.\.\. |skipped:|left out:|held:)' "$work/console" | sort -u | sed 's/^/  /' || true
  passed=$(grep -acE '^test .* \.\.\. ok$' "$work/console" || true)
  wrong=$(grep -aE '^test .* \.\.\. (FAILED|ignored)|^skipped:' "$work/console" | tr '\n' ';' || true)
  out=$(grep -aE '^left out:' "$work/console" | sort -u | sed 's/^left out: //' | paste -sd ';' || true)
  if grep -aq '^guest: all passed$' "$work/console" && [ -z "$wrong" ] && [ "$passed" -gt 0 ]; then
    echo "kernel $name: ok. $passed passed, 0 failed, left out: ${out:-nothing}"
  else
    echo "kernel $name: FAILED. $passed passed; ${wrong:-it did not come to its end}; left out: ${out:-nothing}; all that it said is in $console"; failed=1
  fi
done
exit $failed
