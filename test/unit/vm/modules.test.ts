import test from 'ava';
import { kernelParts, loadOrder, moduleName } from '../../vm/machine/modules.ts';

const modulesDep = [
  'kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/fs/mbcache.ko kernel/lib/crc16.ko',
  'kernel/fs/jbd2/jbd2.ko:',
  'kernel/fs/mbcache.ko:',
  'kernel/lib/crc16.ko:',
  'kernel/drivers/virtio/virtio_pci.ko.xz: kernel/drivers/virtio/virtio_ring.ko.xz kernel/drivers/virtio/virtio.ko.xz',
  'kernel/drivers/virtio/virtio_ring.ko.xz: kernel/drivers/virtio/virtio.ko.xz',
  'kernel/drivers/virtio/virtio.ko.xz:',
  'kernel/drivers/block/virtio_blk.ko.xz: kernel/drivers/virtio/virtio_ring.ko.xz kernel/drivers/virtio/virtio.ko.xz',
  '',
].join('\n');

test('a module is listed once, after all its dependencies', (t) => {
  const order = loadOrder(modulesDep, ['virtio_pci', 'virtio-blk', 'ext4']).map(moduleName);
  t.deepEqual(order, [
    'virtio',
    'virtio_ring',
    'virtio_pci',
    'virtio_blk',
    'crc16',
    'mbcache',
    'jbd2',
    'ext4',
  ]);
});

test('modules that are built into the kernel are not loaded', (t) => {
  t.deepEqual(loadOrder(modulesDep, ['crc32c_generic', 'mbcache']), ['kernel/fs/mbcache.ko']);
});

test('the packages of a kernel have names with the same suffix', (t) => {
  const kernel = 'linux-image-6.19.1+deb14-cloud-amd64';
  const depends = [
    kernel,
    '  Depends: kmod',
    '  Depends: linux-base',
    ' |Depends: initramfs-tools',
    '  Depends: linux-modules-6.19.1+deb14-cloud-amd64',
    '  Recommends: apparmor',
    '  Breaks: linux-headers-6.19.1+deb14-cloud-amd64',
  ].join('\n');
  t.deepEqual(kernelParts(depends, kernel), ['linux-modules-6.19.1+deb14-cloud-amd64']);
  t.deepEqual(kernelParts('linux-image-6.1.0-50-cloud-amd64\n  Depends: kmod', 'x'), []);
});
