import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { KernelError } from '../../../src/host/errors.ts';
import { MiB } from '../../../src/units.ts';
import { hostContract } from '../../contract/host-contract.ts';
import { limitCases } from '../../contract/limits.ts';
import { FakeHost } from '../../helpers/fake-host.ts';

for (const { name, run } of [...hostContract, ...limitCases]) {
  test(name, async (t) => {
    const directory = await mkdtemp(join(tmpdir(), 'loopcsi-contract-'));
    const host = new FakeHost();
    try {
      await run({
        host,
        otherSoftware: host.otherSoftware,
        directory,
        equal: (actual, expected, what) => t.deepEqual(actual, expected, what),
      });
      t.deepEqual(
        [host.kernel.mounts.length, host.kernel.devices.size],
        [0, 0],
        'nothing is left mounted or attached',
      );
    } finally {
      host.reboot();
      await rm(directory, { recursive: true });
    }
  });
}

test('a failure is injected once, before or after the effect, and every call is recorded', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-fake-'));
  const host = new FakeHost();
  const path = join(directory, 'image');
  const create = () => host.files.createImage(path, { sizeBytes: MiB, allocate: false });
  host.failNext('files.createImage', new KernelError('open', 'EIO', path));
  host.failNext('files.createImage', new KernelError('close', 'EIO', path), { after: true });
  await t.throwsAsync(create, { message: /^open / });
  await t.throwsAsync(create, { message: /^close / });
  await t.throwsAsync(create, { message: /EEXIST/ });
  t.deepEqual(
    host.calls,
    Array.from({ length: 3 }, () => 'files.createImage'),
  );
  await rm(directory, { recursive: true });
});
