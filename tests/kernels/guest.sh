#!/bin/bash
# The first and only process of a guest's system: prepares what a server has, runs the suite, says how it ended, and stops the machine.
export PATH=/usr/sbin:/usr/bin HOME=/root LANG=C.UTF-8 RUST_BACKTRACE=0
mount -t proc proc /proc; mount -t sysfs sys /sys; mountpoint -q /dev || mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts devpts /dev/pts; mount -t tmpfs -o mode=1777 shm /dev/shm; mount -t mqueue mqueue /dev/mqueue
mount -t tmpfs -o mode=755 run /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup; mount -t securityfs security /sys/kernel/security
for module in /modules/*.ko; do [ -e "$module" ] && busybox insmod "$module"; done
mountpoint -q /sys/fs/fuse/connections || mount -t fusectl fusectl /sys/fs/fuse/connections
exec < /dev/null > /dev/ttyS0 2>&1
stty -F /dev/ttyS0 -onlcr 2>/dev/null
for name in fd:fd stdin:fd/0 stdout:fd/1 stderr:fd/2; do ln -sfn /proc/self/${name#*:} /dev/${name%%:*}; done
ip link set lo up; ip link add dummy0 type dummy
echo guest > /proc/sys/kernel/hostname
chmod 1777 /tmp /var/tmp
# Where a kernel shuts this by itself, nothing is seen of what of ours shuts it.
[ -e /proc/sys/dev/tty/legacy_tiocsti ] && echo 1 > /proc/sys/dev/tty/legacy_tiocsti
ulimit -n 65536
export SAFELIGHT_REQUIRE=root,fuse,userns,landlock,python3,setpriv,ip,controllers,io
export SAFELIGHT_PATIENCE=900
export SAFELIGHT_KERNEL_ABI=$(grep -o 'safelight.abi=[0-9]*' /proc/cmdline | cut -d= -f2)
echo "guest: $(uname -r), $(cat /sys/fs/cgroup/cgroup.controllers), Landlock ABI $SAFELIGHT_KERNEL_ABI expected"
mapfile -t tests < /etc/tests
echo "left out: walls::an_older_landlock_refuses_all_but_what_came_later (it makes a newer kernel like this one)"
suite "${tests[@]}" --skip an_older_landlock --test-threads=2
status=$?
[ $status = 0 ] && echo "guest: all passed" || echo "guest: failed with $status"
sleep 1
# There is no other process to be asked.
sync
echo 1 > /proc/sys/kernel/sysrq; echo b > /proc/sysrq-trigger
sleep 60
