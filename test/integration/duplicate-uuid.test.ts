/** Two filesystems with the same UUID, as after a manual copy of an image. */
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { execa } from 'execa';
import { onScene, type Scene } from '../helpers/node-fixture.ts';
import { onNode } from '../helpers/on-node.ts';

const ok = { code: 'OK', message: '' };
const kinds = ['ext4', 'xfs', 'btrfs'] as const;
type Kind = (typeof kinds)[number];

async function begin(t: ExecutionContext, scene: Scene, name: string, kind: Kind): Promise<void> {
  t.deepEqual(await scene.stage(name, kind), ok);
  t.deepEqual(await scene.publish(name, kind), ok);
}

async function end(t: ExecutionContext, scene: Scene, name: string): Promise<void> {
  t.deepEqual(await scene.unpublish(name), ok);
  t.deepEqual(await scene.unstage(name), ok);
  t.deepEqual(await scene.devicesOf(name), []);
}

async function writeAlone(
  t: ExecutionContext,
  scene: Scene,
  name: string,
  kind: Kind,
): Promise<void> {
  await begin(t, scene, name, kind);
  await scene.write(name, name);
  await end(t, scene, name);
}

const labelOf = (scene: Scene, name: string): Promise<string> =>
  readFile(join(scene.targetOf(name), 'mark'), 'utf8');

for (const kind of kinds) {
  onNode(
    `${kind}: each of two volumes with the same UUID shows its own content or is refused`,
    async (t) => {
      await onScene(t, async (scene) => {
        t.deepEqual(await scene.create('one', kind), ok);
        t.deepEqual(await scene.create('two', kind), ok);
        await writeAlone(t, scene, 'one', kind);
        await copyFile(scene.imageOf('one'), scene.imageOf('two'));
        await writeAlone(t, scene, 'two', kind);

        await begin(t, scene, 'one', kind);
        const second = await scene.stage('two', kind);
        if (kind === 'ext4') t.deepEqual(second, ok);
        if (kind === 'xfs') t.is(second.code, 'FAILED_PRECONDITION');
        // Since Linux 6.7, both btrfs can be mounted.
        if (second.code === 'OK') {
          t.deepEqual(await scene.publish('two', kind), ok);
          t.is(await labelOf(scene, 'two'), 'two');
          await end(t, scene, 'two');
        } else {
          t.is(second.code, 'FAILED_PRECONDITION');
          t.regex(
            second.message,
            /has the UUID \S+, and so has the one on \/dev\/loop\d+, which is/,
          );
          t.deepEqual(await scene.devicesOf('two'), []);
        }
        t.is(await labelOf(scene, 'one'), 'one');
        await end(t, scene, 'one');

        await begin(t, scene, 'two', kind);
        t.is(await labelOf(scene, 'two'), 'two', 'it is mounted once the other is unmounted');
        await end(t, scene, 'two');
        for (const name of ['one', 'two']) t.deepEqual(await scene.delete(name), ok);
      });
    },
  );
}

async function withCopy(
  scene: Scene,
  { image, changes }: { image: string; changes: number },
  play: (device: string, markOfCopy: () => Promise<string>) => Promise<void>,
): Promise<void> {
  const copy = scene.world.pathOf('copy.img');
  const directory = scene.world.pathOf('copy');
  await mkdir(directory);
  await copyFile(image, copy);
  const { stdout: device } = await execa('losetup', ['--find', '--show', copy]);
  const whileMounted = async <T>(work: (mark: string) => Promise<T>): Promise<T> => {
    await execa('mount', ['-t', 'btrfs', device, directory]);
    try {
      return await work(join(directory, 'mark'));
    } finally {
      await execa('umount', [directory]);
    }
  };
  try {
    for (let change = 1; change <= changes; change += 1) {
      await whileMounted((mark) => writeFile(mark, `copy ${change}`));
    }
    await play(device, () => whileMounted((mark) => readFile(mark, 'utf8')));
  } finally {
    await execa('losetup', ['--detach', device]);
  }
}

// btrfs prefers the device with the newer generation, and of two equal ones the device that was registered last.
for (const changes of [0, 3]) {
  onNode(
    `btrfs: a copy with ${changes} changes that is registered with the kernel is not mounted instead of the volume`,
    async (t) => {
      await onScene(t, async (scene) => {
        t.deepEqual(await scene.create('volume', 'btrfs'), ok);
        await writeAlone(t, scene, 'volume', 'btrfs');
        const image = scene.imageOf('volume');
        await withCopy(scene, { image, changes }, async (device, markOfCopy) => {
          await execa('btrfs', ['device', 'scan', device]);
          const answer = await scene.stage('volume', 'btrfs');
          t.log(answer);
          if (answer.code === 'OK') {
            t.deepEqual(await scene.publish('volume', 'btrfs'), ok);
            t.is(await labelOf(scene, 'volume'), 'volume');
            await scene.write('volume', 'changed');
            await end(t, scene, 'volume');
          } else {
            t.is(answer.code, 'FAILED_PRECONDITION');
            t.regex(answer.message, /has the UUID \S+, and so has another device/);
            t.deepEqual(await scene.devicesOf('volume'), []);
          }
          t.is(await markOfCopy(), changes === 0 ? 'volume' : `copy ${changes}`);
        });
        await execa('btrfs', ['device', 'scan', '--forget']);
        await writeAlone(t, scene, 'volume', 'btrfs');
      });
    },
  );
}
