import test from 'ava';
import { checkMachine } from '../../../../src/volumes/admin/doctor-machine.ts';
import { FakeHost } from '../../../helpers/fake-host.ts';

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
