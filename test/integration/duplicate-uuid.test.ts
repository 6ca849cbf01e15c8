/** Two filesystems with the same UUID, as after a manual copy of an image. */
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { execa } from 'execa';
import { type NodeFixture, withFixture } from '../helpers/node-fixture.ts';
import { onNode } from '../helpers/on-node.ts';

const ok = { code: 'OK', message: '' };
const kinds = ['ext4', 'xfs', 'btrfs'] as const;
type Kind = (typeof kinds)[number];

async function begin(
  t: ExecutionContext,
  fixture: NodeFixture,
  name: string,
  kind: Kind,
): Promise<void> {
  t.deepEqual(await fixture.stage(name, kind), ok);
  t.deepEqual(await fixture.publish(name, kind), ok);
}

async function end(t: ExecutionContext, fixture: NodeFixture, name: string): Promise<void> {
  t.deepEqual(await fixture.unpublish(name), ok);
  t.deepEqual(await fixture.unstage(name), ok);
  t.deepEqual(await fixture.devicesOf(name), []);
}

async function writeAlone(
  t: ExecutionContext,
  fixture: NodeFixture,
  name: string,
  kind: Kind,
): Promise<void> {
  await begin(t, fixture, name, kind);
  await fixture.write(name, name);
  await end(t, fixture, name);
}

const labelOf = (fixture: NodeFixture, name: string): Promise<string> =>
  readFile(join(fixture.targetOf(name), 'mark'), 'utf8');

for (const kind of kinds) {
  onNode(
    `${kind}: each of two volumes with the same UUID shows its own content or is refused`,
    async (t) => {
      await withFixture(t, async (fixture) => {
        t.deepEqual(await fixture.create('one', kind), ok);
        t.deepEqual(await fixture.create('two', kind), ok);
        await writeAlone(t, fixture, 'one', kind);
        await copyFile(fixture.imageOf('one'), fixture.imageOf('two'));
        await writeAlone(t, fixture, 'two', kind);

        await begin(t, fixture, 'one', kind);
        const second = await fixture.stage('two', kind);
        if (kind === 'ext4') t.deepEqual(second, ok);
        if (kind === 'xfs') t.is(second.code, 'FAILED_PRECONDITION');
        // Since Linux 6.7, both btrfs can be mounted.
        if (second.code === 'OK') {
          t.deepEqual(await fixture.publish('two', kind), ok);
          t.is(await labelOf(fixture, 'two'), 'two');
          await end(t, fixture, 'two');
        } else {
          t.is(second.code, 'FAILED_PRECONDITION');
          t.regex(
            second.message,
            /has the UUID \S+, and so has the one on \/dev\/loop\d+, which is/,
          );
          t.deepEqual(await fixture.devicesOf('two'), []);
        }
        t.is(await labelOf(fixture, 'one'), 'one');
        await end(t, fixture, 'one');

        await begin(t, fixture, 'two', kind);
        t.is(await labelOf(fixture, 'two'), 'two', 'it is mounted once the other is unmounted');
        await end(t, fixture, 'two');
        for (const name of ['one', 'two']) t.deepEqual(await fixture.delete(name), ok);
      });
    },
  );
}

async function withCopy(
  fixture: NodeFixture,
  { image, changes }: { image: string; changes: number },
  run: (device: string, markOfCopy: () => Promise<string>) => Promise<void>,
): Promise<void> {
  const copy = fixture.testNode.pathOf('copy.img');
  const directory = fixture.testNode.pathOf('copy');
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
    await run(device, () => whileMounted((mark) => readFile(mark, 'utf8')));
  } finally {
    await execa('losetup', ['--detach', device]);
  }
}

// btrfs prefers the device with the newer generation, and of two equal ones the device that was registered last.
for (const changes of [0, 3]) {
  onNode(
    `btrfs: a copy with ${changes} changes that is registered with the kernel is not mounted instead of the volume`,
    async (t) => {
      await withFixture(t, async (fixture) => {
        t.deepEqual(await fixture.create('volume', 'btrfs'), ok);
        await writeAlone(t, fixture, 'volume', 'btrfs');
        const image = fixture.imageOf('volume');
        await withCopy(fixture, { image, changes }, async (device, markOfCopy) => {
          await execa('btrfs', ['device', 'scan', device]);
          const answer = await fixture.stage('volume', 'btrfs');
          t.log(answer);
          if (answer.code === 'OK') {
            t.deepEqual(await fixture.publish('volume', 'btrfs'), ok);
            t.is(await labelOf(fixture, 'volume'), 'volume');
            await fixture.write('volume', 'changed');
            await end(t, fixture, 'volume');
          } else {
            t.is(answer.code, 'FAILED_PRECONDITION');
            t.regex(answer.message, /has the UUID \S+, and so has another device/);
            t.deepEqual(await fixture.devicesOf('volume'), []);
          }
          t.is(await markOfCopy(), changes === 0 ? 'volume' : `copy ${changes}`);
        });
        await execa('btrfs', ['device', 'scan', '--forget']);
        await writeAlone(t, fixture, 'volume', 'btrfs');
      });
    },
  );
}
