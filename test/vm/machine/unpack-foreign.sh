#!/bin/sh
# Goes on where `debootstrap --foreign` ended, with the directory of the root as its argument. No program in there can run on this
# machine, so the packages are unpacked and not configured. What their scripts would have made, and the tests need, is made here.
set -e
cd "$1"

status=var/lib/dpkg/status
for package in var/cache/apt/archives/*.deb; do
  dpkg-deb --fsys-tarfile "$package" >debootstrap/package.tar
  # /bin, /lib and /sbin are links into /usr.
  tar --extract --numeric-owner --keep-directory-symlink --file debootstrap/package.tar
  dpkg-deb --field "$package" Package Version Architecture >>"$status"
  printf 'Status: install ok unpacked\n\n' >>"$status"
done
rm -r debootstrap

# In a container debootstrap makes it a link until its second stage.
[ ! -L proc ] || rm proc
# base-files, base-passwd, libc-bin
mkdir -p home mnt opt proc root srv
cp usr/share/base-passwd/passwd.master etc/passwd
cp usr/share/base-passwd/group.master etc/group
cp usr/share/libc-bin/nsswitch.conf etc/nsswitch.conf
# Alternatives
ln -s mawk usr/bin/awk
ln -s which.debianutils usr/bin/which
