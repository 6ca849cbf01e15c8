import test from 'ava';
import type { LoopDevice, MountUser } from '../../../../src/host/host.ts';
import { describeDeviceUsers } from '../../../../src/volumes/attachment/unmount.ts';
import { FakeHost } from '../../../helpers/fake-host.ts';

const postgres: MountUser = { pid: 1234, command: 'postgres' };

const cases: readonly {
  readonly name: string;
  readonly above: readonly string[];
  readonly users: readonly MountUser[];
  readonly expect: string;
}[] = [
  { name: 'no user is found', above: [], users: [], expect: '' },
  { name: 'a process', above: [], users: [postgres], expect: ' by postgres (1234)' },
  {
    name: 'LVM has activated a group in it',
    above: ['dm-1 (foreignvg-data)'],
    users: [],
    expect: ' by dm-1 (foreignvg-data)',
  },
  {
    name: 'both',
    above: ['md127'],
    users: [postgres],
    expect: ' by md127, postgres (1234)',
  },
];

for (const { name, above, users, expect } of cases) {
  test(`the users of a device are named: ${name}`, async (t) => {
    const host = new FakeHost();
    const seen = { devicesAbove: async () => above, ofDevice: async () => users };
    // Only the device number is used.
    const device = { number: 7 } as LoopDevice;
    t.is(
      await describeDeviceUsers(Object.assign(host, { users: { ...host.users, ...seen } }), device),
      expect,
    );
  });
}
