import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { makeClient } from '../../src/csi/client.ts';
import { type DriverProcess, spawnDriver, untilReady } from '../helpers/driver.ts';
import { onNode } from '../helpers/on-node.ts';
import { removeAll } from '../helpers/scratch-pool.ts';
import { until } from '../helpers/until.ts';

/** A machine on which drivers, each with its own socket and pool, share one state directory. */
async function machine(t: ExecutionContext) {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-two-'));
  t.teardown(() => removeAll(directory));
  const running = new Set<DriverProcess>();
  t.teardown(async () => {
    for (const driver of running) {
      await driver.kill();
    }
  });
  const state = join(directory, 'state');
  const flagsOf = (name: string): string[] => [
    `--state-dir=${state}`,
    `--pool=${name}=${join(directory, name, 'pool')},create`,
  ];
  return {
    state,
    pathOf: (name: string) => join(directory, name, 'pool'),
    /** A driver without a served pool is not ready. */
    start: async (
      name: string,
      { flags = [], isServing = true }: { flags?: readonly string[]; isServing?: boolean } = {},
    ) => {
      await mkdir(join(directory, name), { recursive: true });
      const all = [...flagsOf(name), ...flags];
      const driver = await spawnDriver(join(directory, name), all);
      running.add(driver);
      if (isServing) await untilReady(driver);
      return driver;
    },
    /** Its exit code and log, once it has ended. */
    refused: async (name: string, flags: readonly string[]) => {
      await mkdir(join(directory, name), { recursive: true });
      const driver = await spawnDriver(join(directory, name), [...flagsOf(name), ...flags]);
      running.add(driver);
      return { code: await driver.ended, log: await driver.log() };
    },
  };
}

/** Waits for an answer of the driver and returns the reasons why its pools are not served. */
async function problemsOf({ endpoint }: DriverProcess): Promise<readonly string[]> {
  const admin = makeClient('loopcsi.v1.Admin', `unix://${endpoint}`);
  let reasons: readonly string[] | undefined;
  await until('the driver answers', async () => {
    const answer = await admin.ListPools({}, { timeoutMs: 5_000 }).catch(() => undefined);
    reasons = answer?.pools.map(({ reason }) => reason);
    return reasons !== undefined;
  });
  admin.close();
  return (reasons ?? []).filter((reason) => reason !== '');
}

onNode('drivers that start and stop alternately forget no pool of another', async (t) => {
  const { state, pathOf, start } = await machine(t);
  // The pool of the first driver is served only after the second has started.
  await mkdir(pathOf('first'), { recursive: true });
  await writeFile(join(pathOf('first'), 'obstacle'), '');
  const first = await start('first', { isServing: false });
  t.regex((await problemsOf(first)).join(), /is not empty/);
  const second = await start('second');
  await rm(join(pathOf('first'), 'obstacle'));
  await until(
    'the pool of the first driver is served',
    async () => (await problemsOf(first)).length === 0,
  );
  await start('third');
  await first.stop();
  await second.stop();
  const { pools } = JSON.parse(await readFile(join(state, 'pools.json'), 'utf8')) as {
    pools: Record<string, string>;
  };
  t.deepEqual(Object.keys(pools).sort(), ['first', 'second', 'third'].map(pathOf).sort());
  await rename(pathOf('first'), `${pathOf('first')}-away`);
  await mkdir(pathOf('first'));
  const again = await start('first', { isServing: false });
  t.regex((await problemsOf(again)).join(), /its disk is not mounted/);
  t.deepEqual(await readdir(pathOf('first')), []);
});

onNode(
  'a socket, mount directory or pool that another driver uses is refused with its name',
  async (t) => {
    const { state, pathOf, start, refused } = await machine(t);
    const mountDir = `--mount-dir=${join(state, 'docker')}`;
    const flags = [`--docker-socket=${join(state, 'docker.sock')}`, mountDir];
    const first = await start('first', { flags });
    const socket = await refused('second', [`--endpoint=unix://${first.endpoint}`]);
    t.not(socket.code, '0');
    t.regex(socket.log, /another process answers/);
    const mounts = await refused('third', [`--docker-socket=${join(state, 'c.sock')}`, mountDir]);
    t.not(mounts.code, '0');
    t.regex(mounts.log, /is in use by another loopcsi process; .*--mount-dir/);
    const fourth = await start('fourth', { flags: [`--pool=shared=${pathOf('first')}`] });
    t.regex((await problemsOf(fourth)).join(), /is served by another loopcsi process/);
  },
);
