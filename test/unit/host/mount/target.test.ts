import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { KernelError } from '../../../../src/host/errors.ts';
import { driverLane } from '../../../../src/host/lane.ts';
import { withTarget } from '../../../../src/host/mount/target.ts';

test('a file or directory target is opened without following a symlink, with or without a root', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-test-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const pathOf = (name: string) => join(directory, name);
  await mkdir(pathOf('directory'));
  await writeFile(pathOf('file'), '');
  for (const kind of ['directory', 'file'] as const) await symlink(kind, pathOf(`to-${kind}`));
  const open = async (name: string, kind: 'directory' | 'file', root?: string) => {
    try {
      await withTarget(driverLane, pathOf(name), { kind, root }, () => Promise.resolve());
      return 'ok';
    } catch (error) {
      return error instanceof KernelError ? error.errno : String(error);
    }
  };
  for (const root of [undefined, directory]) {
    t.is(await open('directory', 'directory', root), 'ok');
    t.is(await open('file', 'file', root), 'ok');
    t.is(await open('file', 'directory', root), 'ENOTDIR');
    t.is(await open('directory', 'file', root), 'EISDIR');
    for (const kind of ['directory', 'file'] as const) {
      t.is(await open(`to-${kind}`, kind, root), 'ELOOP', `${kind} below ${root ?? 'no root'}`);
    }
  }
});
