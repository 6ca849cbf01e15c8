import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { withPrivateMount } from '../../../../src/host/filesystem/private-mount.ts';
import { driverLane } from '../../../../src/host/lane.ts';
import { MiB } from '../../../../src/units.ts';
import { onNode } from '../../../helpers/on-node.ts';
import { files, loops, mounts, withFixture } from './fixture.ts';

const deps = { loops, mounts };
const ext4 = { fsType: 'ext4', sectorSize: 4096, mountOptions: [] } as const;

onNode('the changes of work are in the image, and nothing stays mounted or attached', async (t) => {
  await withFixture(t, async (fixture) => {
    const { image } = await fixture.make('ext4', 32n * MiB);
    const options = { ...ext4, workDir: fixture.workDir };
    await withPrivateMount(driverLane, deps, image, options, (target) =>
      writeFile(join(target, 'file'), 'x'),
    );
    t.deepEqual(await readdir(fixture.workDir), []);
    t.deepEqual(await loops.findByImage(await files.imageStatus(image)), []);
    await withPrivateMount(driverLane, deps, image, options, async (target) => {
      t.is(await readFile(join(target, 'file'), 'utf8'), 'x');
    });
  });
});

onNode(
  'after a failure of the work or of the mount, nothing stays mounted or attached',
  async (t) => {
    await withFixture(t, async (fixture) => {
      const { image } = await fixture.make('ext4', 32n * MiB);
      const options = { ...ext4, workDir: fixture.workDir };
      const fails = () => Promise.reject(new Error('no'));
      await t.throwsAsync(withPrivateMount(driverLane, deps, image, options, fails), {
        message: 'no',
      });
      const wrong = { ...options, fsType: 'xfs' } as const;
      await t.throwsAsync(withPrivateMount(driverLane, deps, image, wrong), {
        message: /^mount .*EINVAL$/,
      });
      t.deepEqual(await readdir(fixture.workDir), []);
      t.deepEqual(await loops.findByImage(await files.imageStatus(image)), []);
    });
  },
);

onNode(
  'a private mount ends only after a mount namespace with a copy of the mount has ended',
  async (t) => {
    await withFixture(t, async (fixture) => {
      const { image } = await fixture.make('ext4', 32n * MiB);
      const options = { ...ext4, workDir: fixture.workDir };
      let container: ChildProcess | undefined;
      let ended = false;
      const mounted = withPrivateMount(driverLane, deps, image, options, async () => {
        // It writes `in` once it has its own mount namespace, and runs until its input closes.
        const command = ['--mount', '--propagation', 'private', 'sh', '-c', 'echo in; read line'];
        container = spawn('unshare', command, { stdio: ['pipe', 'pipe', 'inherit'] });
        if (container.stdout !== null) await once(container.stdout, 'data');
      }).then(() => {
        ended = true;
      });
      const status = await files.imageStatus(image);
      while ((await readdir(fixture.workDir)).length === 0) await new Promise(setImmediate);
      while (container === undefined) await new Promise(setImmediate);
      // Unmounted here, but still attached because of the other namespace.
      for (;;) {
        const [device] = await loops.findByImage(status);
        const here = (await mounts.list()).some(({ source }) => source === device?.path);
        if (device?.autoclear === true && !here) break;
        if (device === undefined) break;
      }
      t.is((await loops.findByImage(status)).length, 1);
      t.false(ended);
      container.stdin?.end();
      await mounted;
      t.deepEqual(await loops.findByImage(status), []);
    });
  },
);
