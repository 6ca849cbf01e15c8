#!/bin/busybox sh
# The first process: loads what the disks need, finds them by the serial numbers that QEMU gave them, and hands over to
# the payload's boot.sh on the machine's own filesystem.
PATH=/bin
busybox mkdir -p /proc /sys /dev /system
busybox mount -t devtmpfs dev /dev
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
while read -r module; do busybox insmod "/modules/$module"; done </modules/order

# Prints the device with the serial number, once it is there.
disk() {
  while :; do
    for serial in /sys/block/vd*/serial; do
      [ -r "$serial" ] && [ "$(busybox cat "$serial")" = "$1" ] || continue
      device=${serial#/sys/block/}
      printf '/dev/%s' "${device%/serial}"
      return
    done
    busybox sleep 0.05
  done
}

# Unused inode tables are not written: the image is a throw-away.
busybox mount -t ext4 -o noinit_itable "$(disk loopcsi-base)" /system || exec busybox sh
busybox mount -t ext4 -o noinit_itable "$(disk loopcsi-payload)" /system/payload || exec busybox sh
busybox umount /sys
busybox umount /proc
busybox mount --move /dev /system/dev
exec busybox switch_root /system /payload/.vm/boot.sh
