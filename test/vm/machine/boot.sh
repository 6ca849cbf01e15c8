#!/bin/sh
# Process 1 of the machine: mounts what a running system has, runs the job, powers off.
# The first serial port is the kernel's console; what the job prints goes to the second, so that no message of the kernel lies within
# a line.
export PATH=/payload/.vm/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root LC_ALL=C LOOPCSI_CACHE=/payload/.vm
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts /dev/shm /dev/vm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs -o mode=755 tmpfs /run
mount -t cgroup2 cgroup /sys/fs/cgroup
for controller in io memory cpu pids; do echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control; done
mount -t securityfs security /sys/kernel/security
mount -t debugfs debug /sys/kernel/debug
# A container platform's mounts are seen in all mount namespaces.
mount --make-rshared /
ip link set lo up
hostname loopcsi-vm
modprobe -a loop fuse ext4 xfs btrfs
ln -sf /payload/.vm/bin/node /usr/bin/node
mkdir -p /run/lock /out
for serial in /sys/block/vd*/serial; do
  device=${serial#/sys/block/}
  ln -s "../${device%/serial}" "/dev/vm/$(cat "$serial")"
done

cd /payload || exit 1
if grep -qw loopcsi.shell /proc/cmdline; then
  echo "This is $(uname -r); the project is /payload. The machine ends with this shell."
  setsid --ctty --wait bash --login <>"/dev/$(cat /sys/class/tty/console/active)" >&0 2>&1
else
  port=/dev/$(sed -n 's/.*\<loopcsi\.port=\(\w*\).*/\1/p' /proc/cmdline)
  stty -F "$port" raw -echo
  node --enable-source-maps dist/test/vm/inside/run-job.js >"$port" </dev/null
fi
sync
echo o >/proc/sysrq-trigger
while :; do sleep 1; done
