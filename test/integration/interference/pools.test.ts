/** Pools disappear and return, other software changes records, other drivers run: nothing is deleted or forgotten because of it. */
import { mkdir, readdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { MiB } from '../../../src/units.ts';
import { volumeIdOf } from '../../crash/calls.ts';
import { runCommand } from '../../helpers/command-line.ts';
import { spawnDriver } from '../../helpers/driver.ts';
import { type NodeFixture, withFixture } from '../../helpers/node-fixture.ts';
import { onNode } from '../../helpers/on-node.ts';
import { until } from '../../helpers/until.ts';

const ok = { code: 'OK', message: '' };

const twoPools = (directory: string) => [
  `--pool=a=${join(directory, 'pool')},create,overcommit=20`,
  `--pool=b=${join(directory, 'second')},create,overcommit=20`,
];

/** Volume x is in both pools: pool b, with the older one, was unavailable when the one in pool a was created. */
async function makeDuplicates(t: ExecutionContext, fixture: NodeFixture): Promise<string> {
  const { testNode } = fixture;
  const [second, away] = [testNode.pathOf('second'), testNode.pathOf('away')];
  t.deepEqual(await fixture.create('x', 'block', { parameters: { pool: 'b' } }), ok);
  t.deepEqual(await fixture.stage('x', 'block'), ok);
  t.deepEqual(await fixture.publish('x', 'block'), ok);
  await fixture.writeMark('x', 'ORIGINAL-OF-B');
  t.deepEqual(await fixture.unpublish('x'), ok);
  t.deepEqual(await fixture.unstage('x'), ok);
  await testNode.driver.stop();
  await rename(second, away);
  await testNode.start();
  t.deepEqual(await fixture.create('x', 'block', { parameters: { pool: 'a' } }), ok);
  return away;
}

const isServed = async (fixture: NodeFixture, name: string): Promise<boolean> => {
  const { pools } = await fixture.testNode.admin.ListPools({});
  return pools.some((pool) => pool.name === name && pool.reason === '');
};

for (const returns of ['while the driver runs', 'before the driver starts'] as const) {
  onNode(`a duplicate in a pool that came back ${returns} is never deleted`, async (t) => {
    const options = { flags: twoPools };
    await withFixture(
      t,
      async (fixture) => {
        const { testNode } = fixture;
        const away = await makeDuplicates(t, fixture);
        const second = testNode.pathOf('second');
        const image = fixture.imageOf('x', 'second');
        await mkdir(second, { recursive: true });
        if (returns === 'before the driver starts') await testNode.driver.stop();
        // Has the effect of a mount: the pool replaces the empty directory.
        await rename(away, second);
        if (returns === 'before the driver starts') await testNode.start();
        await until('pool b is served', () => isServed(fixture, 'b'));
        t.deepEqual(await fixture.delete('x'), ok, 'the volume in use');
        for (let time = 0; time < 3; time += 1) {
          const again = await fixture.delete('x');
          t.is(again.code, 'FAILED_PRECONDITION', `repeat ${time}: ${again.message}`);
          t.true(again.message.includes(second), again.message);
        }
        const removed = await testNode.docker('Remove', { Name: 'x' }).then(
          () => 'removed',
          (error: unknown) => String(error),
        );
        t.not(removed, 'removed');
        const { endpoint } = testNode.driver;
        const ran = await runCommand(endpoint, 'volume', 'delete', '--yes', 'x');
        t.not(ran.exitCode, 0, ran.stdout);
        await testNode.driver.kill();
        await testNode.start();
        await until('pool b is served', () => isServed(fixture, 'b'));
        await stat(image);
        const text = (await readFile(image)).subarray(0, 13).toString('latin1');
        t.is(text, 'ORIGINAL-OF-B');
      },
      options,
    );
  });
}

onNode('a record of a later schema is neither deleted nor overwritten', async (t) => {
  await withFixture(t, async (fixture) => {
    const { testNode } = fixture;
    t.deepEqual(await fixture.create('later', 'ext4'), ok);
    const directory = testNode.pathOf('pool', 'volumes', volumeIdOf('later'));
    const record = join(directory, 'volume.json');
    await testNode.driver.stop();
    const text = (await readFile(record, 'utf8')).replace(
      /"schemaVersion":\s*\d+/,
      '"schemaVersion": 999',
    );
    t.true(text.includes('999'));
    await writeFile(record, text);
    await testNode.start();
    const answer = await fixture.delete('later');
    t.is(answer.code, 'FAILED_PRECONDITION', answer.message);
    t.true(answer.message.includes(directory), answer.message);
    t.not((await fixture.expand('later', 64n * MiB)).code, 'OK');
    t.not((await fixture.stage('later')).code, 'OK');
    t.not((await fixture.create('later')).code, 'OK');
    t.is(await readFile(record, 'utf8'), text);
    await stat(join(directory, 'disk.img'));
  });
});

/** The directories in which a pool was seen, according to the state directory. */
async function poolsKnown(stateDir: string): Promise<readonly string[]> {
  const text = await readFile(join(stateDir, 'pools.json'), 'utf8');
  return Object.keys((JSON.parse(text) as { pools: object }).pools);
}

onNode(
  'a second driver with the same state directory does not make the first forget anything',
  async (t) => {
    await withFixture(t, async (fixture) => {
      const { testNode } = fixture;
      await testNode.docker('Create', { Name: 'pgdata', Opts: { size: '32Mi' } });
      const folder = testNode.pathOf('state', 'known-volumes');
      const notesBefore = await readdir(folder);
      const poolsBefore = await poolsKnown(testNode.pathOf('state'));
      t.deepEqual(notesBefore, [volumeIdOf('pgdata')]);
      const other = testNode.pathOf('other');
      await mkdir(other);
      const second = await spawnDriver(other, [
        `--state-dir=${testNode.pathOf('state')}`,
        `--pool=default=${join(other, 'pool')},create`,
        '--http-address=off',
      ]);
      let end: string | undefined;
      void second.ended.then((how) => {
        end = how;
      });
      await until(
        'the second driver serves or ends',
        async () => end !== undefined || (await second.log()).includes('"serving"'),
      );
      if (end !== undefined) t.true((await second.log()).includes(testNode.pathOf('state')), end);
      await second.stop();
      t.deepEqual(await readdir(folder), notesBefore);
      const poolsAfter = await poolsKnown(testNode.pathOf('state'));
      for (const known of poolsBefore) t.true(poolsAfter.includes(known), known);
      // The machine restarts without the disk of the first driver.
      await testNode.driver.stop();
      await rename(testNode.poolPath, testNode.pathOf('away'));
      await mkdir(testNode.poolPath);
      // Without a served pool the driver never becomes ready.
      await testNode.startWithoutWaiting();
      let found = '';
      await until('Docker gets a response', async () => {
        found = await testNode.docker('Get', { Name: 'pgdata' }).then(
          (answer) => JSON.stringify(answer),
          (error: unknown) => String(error),
        );
        return !/ENOENT|ECONNREFUSED|being opened/.test(found);
      });
      t.false(/there is no volume|not found/i.test(found), found);
      t.deepEqual(
        await readdir(testNode.poolPath),
        [],
        'no new pool is created in the directory of a known one',
      );
    });
  },
);
