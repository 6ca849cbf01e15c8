import test from 'ava';
import { KernelError } from '../../../../src/host/errors.ts';
import type { Diagnostics } from '../../../../src/host/host.ts';
import { findPropagation } from '../../../../src/host/mount/propagation.ts';
import { versionIn } from '../../../../src/host/programs/versions.ts';
import { MiB } from '../../../../src/units.ts';
import { checkClock } from '../../../../src/volumes/admin/doctor-clock.ts';
import { checkMachine } from '../../../../src/volumes/admin/doctor-machine.ts';
import { cgroupV1 } from '../../../helpers/fake-device-limits.ts';
import { FakeHost } from '../../../helpers/fake-host.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { call, volumeInput } from '../../../helpers/scratch-node.ts';

test('a filesystem whose module is not loaded is a warning', async (t) => {
  const host = new FakeHost({ supportedFilesystems: ['ext4', 'xfs', 'proc'] });
  const findings = await checkMachine(host);
  const states = findings
    .filter(({ name }) => name.startsWith('filesystem:'))
    .map(({ name, state }) => [name, state]);
  t.deepEqual(states, [
    ['filesystem:ext4', 'ok'],
    ['filesystem:xfs', 'ok'],
    ['filesystem:btrfs', 'warn'],
  ]);
});

for (const { name, cgroup, use, state } of [
  { name: 'a cgroup', cgroup: undefined, use: { limitedVolumes: 1 }, state: 'ok' },
  { name: 'cgroup v1, and no limits', cgroup: cgroupV1, use: {}, state: 'ok' },
  {
    name: 'cgroup v1, and --pods-cgroup',
    cgroup: cgroupV1,
    use: { podsCgroup: '/a' },
    state: 'warn',
  },
  {
    name: 'cgroup v1, and limited volumes',
    cgroup: cgroupV1,
    use: { limitedVolumes: 2 },
    state: 'fail',
  },
] as const) {
  test(`I/O limits with ${name}: ${state}`, async (t) => {
    const host = new FakeHost();
    if (cgroup !== undefined) host.ioMax.cgroup = cgroup;
    const findings = await checkMachine(host, {}, use);
    const found = findings.find((one) => one.name === 'io-limits');
    t.is(found?.state, state);
    if (cgroup !== undefined)
      t.regex(`${found?.message ?? ''} ${found?.remedy ?? ''}`, /boot the node with/);
  });
}

async function findingsOf(
  diagnostics: Partial<Diagnostics>,
  directories: Parameters<typeof checkMachine>[1] = {},
) {
  const findings = await checkMachine(new FakeHost({ diagnostics }), directories);
  return (name: string) => findings.find((one) => one.name === name);
}

for (const [version, state] of [
  ['1.42.13', 'fail'],
  ['1.43', 'warn'],
  ['1.46.5', 'warn'],
  ['1.47.0', 'ok'],
  ['1.100', 'ok'],
  [undefined, 'warn'],
] as const) {
  test(`e2fsprogs ${version ?? 'without a version'}: ${state}`, async (t) => {
    const program = { name: 'e2fsprogs', program: 'mkfs.ext4', version } as const;
    const found = await findingsOf({
      programVersions: async () => [{ ...program, minVersion: '1.43', testedVersion: '1.47.0' }],
    });
    t.is(found('program:e2fsprogs')?.state, state);
  });
}

test('the versions are read from the output of the programs', (t) => {
  t.is(versionIn('mke2fs 1.47.0 (5-Feb-2023)\n\tUsing EXT2FS Library version 1.47.0'), '1.47.0');
  t.is(versionIn('mkfs.xfs version 6.1.0'), '6.1.0');
  t.is(versionIn('mkfs.btrfs, part of btrfs-progs v6.2'), '6.2');
  t.is(versionIn('mkfs.btrfs, part of btrfs-progs v6.17.1\n'), '6.17.1');
  t.is(versionIn('unknown'), undefined);
});

for (const [what, limits, state] of [
  ['enough numbers', { numbers: [0, 1, 130], numbersBelow: 2 ** 20, withoutNode: [] }, 'ok'],
  ['few numbers left', { numbers: [0, 60], numbersBelow: 64, withoutNode: [] }, 'warn'],
  ['a missing node', { numbers: [0, 1], numbersBelow: 2 ** 20, withoutNode: [1] }, 'warn'],
] as const) {
  test(`loop devices with ${what}: ${state}`, async (t) => {
    const found = await findingsOf({ loopLimits: async () => ({ ...limits, maxLoop: 8 }) });
    t.is(found('loop-devices')?.state, state);
  });
}

for (const [what, propagation, state] of [
  ['shared', { isShared: true, isInFirstNamespace: false }, 'ok'],
  ['private in the first namespace', { isShared: false, isInFirstNamespace: true }, 'ok'],
  ['private in a container', { isShared: false, isInFirstNamespace: false }, 'fail'],
  [
    'private, and the namespace is unknown',
    { isShared: false, isInFirstNamespace: undefined },
    'fail',
  ],
] as const) {
  test(`the kubelet's directory is ${what}: ${state}`, async (t) => {
    const propagationOf = async () => ({ target: '/', ...propagation });
    const found = await findingsOf({ propagationOf }, { kubeletDir: '/var/lib/kubelet' });
    t.is(found('kubelet-dir')?.state, state);
    t.is(found('mount-dir'), undefined);
  });
}

test('a directory for mounts that does not exist is a warning', async (t) => {
  const propagationOf = () => Promise.reject(new KernelError('realpath', 'ENOENT', '/missing'));
  const found = await findingsOf({ propagationOf }, { mountDir: '/missing' });
  t.is(found('mount-dir')?.state, 'warn');
});

test('the mount that contains a path is the deepest and topmost one', (t) => {
  const table = [
    '1 0 8:1 / / rw shared:1 - ext4 /dev/a rw',
    '2 1 8:2 / /var/lib rw master:3 - ext4 /dev/b rw',
    '3 2 8:3 / /var/lib/with\\040space rw shared:7 master:3 - ext4 /dev/c rw',
    '4 3 8:4 / /var/lib/with\\040space rw - ext4 /dev/d rw',
    '',
  ].join('\n');
  t.deepEqual(findPropagation(table, '/etc'), { target: '/', isShared: true });
  t.deepEqual(findPropagation(table, '/var/lib/x'), { target: '/var/lib', isShared: false });
  t.deepEqual(findPropagation(table, '/var/library'), { target: '/', isShared: true });
  const covered = { target: '/var/lib/with space', isShared: false };
  t.deepEqual(findPropagation(table, '/var/lib/with space/x'), covered);
});

test('a volume that was created in the future shows that the clock was set back', async (t) => {
  const node = await fakeNode(t);
  let nowMs = 1_800_000_000_000;
  const { volumes, domain } = await node.open([node.settings('a')], { now: () => nowMs });
  t.deepEqual(checkClock(domain), []);
  await volumes.createVolume(call(), volumeInput('v', { sizeBytes: 16n * MiB }));
  t.is(checkClock(domain)[0]?.state, 'ok');
  nowMs -= 3_600_000;
  const [finding] = checkClock(domain);
  t.is(finding?.state, 'warn');
  t.regex(finding?.message ?? '', /'v' was created at 2027-01-15T08:00:00/);
});
