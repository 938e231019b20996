#!/bin/bash
# The suite of escapes inside other kernels: Debian's own, booted by qemu, with control groups of version 2 and all their controllers.
#
# Usage: run.sh SAFELIGHT SUITE
#   SAFELIGHT  the program, at the path for which the suite was built
#   SUITE      the suite's test binary
#
# Each kernel gets a memory file system with the program, the suite and what both need of this host's /usr; nothing is downloaded but the
# kernels' packages, which are kept in KERNELS_DIR. The guest's answer is its console. A kernel that cannot be had, a guest that does not come to
# its end, a test that fails or is skipped: each fails the run, by name.
set -euo pipefail

# What a kernel is asked for by its meta package, and the Landlock ABI that it must have.
KERNELS=("linux-image-cloud-amd64 6.1 2" "linux-image-6.12-cloud-amd64 6.12 6")
# What must pass in each guest. The walls alone, Landlock apart, since an older one refuses less by itself: that is why there are others.
TESTS=(walls::in_the_open walls::in_a_session walls::what_the_namespaces walls::what_the_filter walls::what_a_user walls::what_the_lack
  life:: results:: kernel::)
SKIP=()
# How long a guest may take in all, in seconds. The processor is emulated, which works wherever qemu does; with KERNELS_KVM set it is not.
PATIENCE=${KERNELS_PATIENCE:-1500}

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

# The guest's file system, as an archive: the same for each kernel.
guest() {
  local root=$work/root program file
  mkdir -p "$root"/{proc,sys,dev,tmp,run,etc,var/tmp,usr/bin,usr/sbin,usr/lib64,usr/lib/x86_64-linux-gnu}
  for file in bin sbin lib lib64; do ln -s "usr/$file" "$root/$file"; done
  {
    for package in coreutils util-linux mount iproute2 dash bash grep sed findutils python3-minimal python3.11-minimal libpython3.11-minimal \
      libpython3.11-stdlib libc6 libc-bin login; do
      dpkg -L "$package" | grep -Ev '^/usr/share/(doc|man|locale|lintian|bash-completion|bug)|^/etc/' || true
    done
  } | sort -u | while read -r file; do
    [ -d "$file" ] && [ ! -L "$file" ] || echo "$file"
  done > "$work/files"
  for program in "$safelight" "$suite" /bin/bash /bin/grep /bin/sed /bin/mount /bin/ls /bin/ip /usr/bin/find /usr/bin/sort /usr/bin/setpriv \
    /usr/bin/unshare /usr/bin/python3.11 /usr/lib/python3.11/lib-dynload/*.so; do libraries "$program"; done | sort -u >> "$work/files"
  # A file of /bin is one of /usr/bin where the two are one.
  sed -E 's#^/(bin|sbin|lib|lib64)/#/usr/\1/#' "$work/files" | sort -u | (cd / && sed 's#^/##' | cpio -pdm --quiet "$root" 2>/dev/null) || true
  ln -sf bash "$root/usr/bin/sh"
  cp /etc/ld.so.conf "$root/etc/"; ldconfig -r "$root" 2>/dev/null || true
  printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n' > "$root/etc/passwd"
  printf 'root:x:0:\nnogroup:x:65534:\n' > "$root/etc/group"
  echo guest > "$root/etc/hostname"
  # The suite looks for both where they were when it was built.
  mkdir -p "$root$(dirname "$safelight")" "$root$source/docs" "$root/root"
  strip -o "$root$safelight" "$safelight"
  strip -o "$root/usr/bin/suite" "$suite" 2>/dev/null || cp "$suite" "$root/usr/bin/suite"
  chmod 755 "$root/usr/bin/suite"
  cp "$source/docs/threats.md" "$root$source/docs/"
  cp "$here/guest.sh" "$root/init"; chmod 755 "$root/init"
  printf '%s\n' "${TESTS[@]}" > "$root/etc/tests"; printf '%s\n' "${SKIP[@]:-}" > "$root/etc/skip"
  tar -C "$root" -cf "$work/root.tar" .
}

# The first file system: a shell that unpacks the other one into memory, since the one it comes in cannot be left by pivot_root.
initial() {
  local modules=$1 to=$2 tree=$work/initial
  rm -rf "$tree"; mkdir -p "$tree/modules" "$tree/root" "$tree/dev"
  cp /bin/busybox "$work/root.tar" "$tree/"
  find "$modules" -name 'fuse.ko*' -exec cp {} "$tree/modules/" \;
  find "$tree/modules" -name '*.xz' -exec xz -d {} \;
  cat > "$tree/init" <<'INIT'
#!/busybox sh
for module in /modules/*.ko; do [ -e "$module" ] && /busybox insmod "$module"; done
/busybox mount -t tmpfs -o mode=755,size=60% root /root && cd /root && /busybox tar xf /root.tar && exec /busybox switch_root /root /init
INIT
  chmod 755 "$tree/init"
  (cd "$tree" && find . | cpio -o -H newc --quiet) > "$to"
}

failed=0
guest
for line in "${KERNELS[@]}"; do
  read -r meta name abi <<< "$line"
  [[ " ${KERNELS_ONLY:-$name} " == *" $name "* ]] || continue
  directory=$(kernel "$meta") || { echo "kernel $name: NOT RUN"; failed=1; continue; }
  initial "$directory/lib/modules" "$work/initial.cpio"
  accelerator=(-accel tcg,thread=multi)
  [ -n "${KERNELS_KVM:-}" ] && accelerator=(-accel kvm)
  echo "kernel $name: $(basename "$directory"), ${accelerator[1]}"
  console=$keep/console-$name
  timeout "$PATIENCE" qemu-system-x86_64 "${accelerator[@]}" -cpu max,arch-capabilities=off -smp 2 -m 4G -nodefaults -no-user-config -display none -no-reboot \
    -serial "file:$console" -kernel "$directory"/boot/vmlinuz-* -initrd "$work/initial.cpio" \
    -append "console=ttyS0 panic=-1 quiet loglevel=1 safelight.abi=$abi" </dev/null || true
  tr -d '\r' < "$console" > "$work/console"
  grep -E '^(guest:|test .* \.\.\. |skipped:)' "$work/console" | sed 's/^/  /' || true
  passed=$(grep -cE '^test .* \.\.\. ok$' "$work/console" || true)
  if grep -q '^guest: all passed$' "$work/console" && ! grep -qE '^test .* \.\.\. FAILED|^skipped:' "$work/console" && [ "$passed" -gt 0 ]; then
    echo "kernel $name: $passed passed"
  else
    echo "kernel $name: FAILED, $passed passed; all that it said is in $console"; failed=1
  fi
done
exit $failed
