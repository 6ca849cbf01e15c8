/** Images that a pod may write to its raw block volume, with content that a host would use if it found it on one of its disks. */
import { mkdtemp, open, rmdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { MiB } from '../../../src/units.ts';

/** A btrfs needs some 110 MiB. */
export const contentBytes = 128n * MiB;

export const hostGroup = 'hostvg';
export const foreignGroup = 'foreignvg';
export const foreignArray = 'foreign';

/** Limits LVM's commands to this device, so the group may have the name of another group. */
export const onlyDevice = (device: string): string =>
  `devices { filter = [ "a|^${device}$|", "r|.*|" ] }`;

/** A physical volume with a group of one logical volume, which a host activates automatically. */
export async function makeVolumeGroup(device: string, group: string): Promise<void> {
  const only = ['--config', onlyDevice(device)];
  await execa('pvcreate', [...only, '--quiet', device]);
  await execa('vgcreate', [...only, '--quiet', group, device]);
  const plan = ['--activate', 'n', '--zero', 'n', '--name', 'data', '--size', '16M'];
  await execa('lvcreate', [...only, '--quiet', ...plan, group]);
}

/** `half`: one of two members of a mirror, whose other member is missing. `whole`: a mirror with one member. */
export async function makeArray(device: string, members: 'half' | 'whole'): Promise<void> {
  const shape =
    members === 'half'
      ? ['--raid-devices=2', device, 'missing']
      : ['--raid-devices=1', '--force', device];
  const path = `/dev/md/${foreignArray}`;
  await execa('mdadm', ['--create', path, '--run', '--level=1', '--metadata=1.2', ...shape]);
  await execa('mdadm', ['--stop', path]);
}

export async function makeExt4(device: string, uuid: string): Promise<void> {
  await execa('mke2fs', ['-q', '-F', '-t', 'ext4', '-U', uuid, '-L', 'host-label', device]);
}

/** A btrfs on one device. Of two with the same UUID, the one with more `changes` has the newer generation. */
export async function makeBtrfs(device: string, uuid: string, changes: number): Promise<void> {
  await execa('mkfs.btrfs', ['--quiet', '--force', '--uuid', uuid, device]);
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-btrfs-'));
  for (let change = 1; change <= changes; change += 1) {
    await execa('mount', ['--types', 'btrfs', device, directory]);
    await writeFile(join(directory, 'changes'), `${change}\n`);
    await execa('umount', [directory]);
  }
  await rmdir(directory);
  // The kernel keeps the device registered even after the unmount.
  await execa('btrfs', ['device', 'scan', '--forget']);
}

/** A partition table (MBR) with one Linux partition that starts at 1 MiB. */
export async function makePartition(device: string): Promise<void> {
  const sector = Buffer.alloc(512);
  sector[446 + 4] = 0x83;
  sector.writeUInt32LE(2048, 446 + 8);
  sector.writeUInt32LE(Number(contentBytes / 512n) - 2048, 446 + 12);
  sector.writeUInt16LE(0xaa55, 510);
  const handle = await open(device, 'r+');
  try {
    await handle.write(sector, 0, sector.length, 0);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Writes an image with this content. No udev may run: it would act on the device. */
export async function makeImage(
  image: string,
  fill: (device: string) => Promise<void>,
): Promise<void> {
  await execa('truncate', [`--size=${contentBytes}`, image]);
  const { stdout: device } = await execa('losetup', ['--find', '--show', image]);
  try {
    await fill(device);
  } finally {
    await execa('losetup', ['--detach', device]);
  }
}
