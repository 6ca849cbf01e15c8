import { PassThrough } from 'node:stream';
import test, { type ExecutionContext } from 'ava';
import { runCommandLine } from '../../../src/cli/program.ts';
import { startTestController } from '../../helpers/controller.ts';
import { startFakeAgent } from '../../helpers/fake-agent.ts';

/** A controller of two nodes that allow copies between them, and a function that runs a command at its socket. */
async function start(t: ExecutionContext) {
  const a = await startFakeAgent(t, 'node-a', { hello: { peer_addresses: ['10.0.0.1'] } });
  const b = await startFakeAgent(t, 'node-b', { hello: { peer_addresses: ['10.0.0.2'] } });
  const controller = await startTestController(t, [a, b]);
  for (const { nodeId } of [a, b]) await controller.until(nodeId, 'ready');
  const run = async (...argv: readonly string[]) => {
    const streams = {
      stdin: new PassThrough(),
      stdout: new PassThrough(),
      stderr: new PassThrough(),
    };
    const exitCode = await runCommandLine([...argv, '--endpoint', controller.endpoint], {
      streams,
      environment: {},
      version: '1',
    });
    const textOf = (stream: PassThrough): string => String(stream.read() ?? '');
    return { exitCode, stdout: textOf(streams.stdout), stderr: textOf(streams.stderr) };
  };
  const createOn = async (name: string, node: string): Promise<void> => {
    const topology = `--topology=topology.loopcsi.io/node=${node}`;
    const { exitCode, stderr } = await run('volume', 'create', name, '--size=1Gi', topology);
    t.is(exitCode, 0, stderr);
  };
  return { a, b, run, createOn };
}

test('volumes and snapshots of several nodes are found by name, listed and deleted in the same way', async (t) => {
  const { a, b, run, createOn } = await start(t);
  await createOn('one', 'node-a');
  await createOn('two', 'node-b');
  for (const name of ['one', 'two']) {
    const { exitCode, stdout, stderr } = await run('snapshot', 'create', name, `of-${name}`);
    t.is(exitCode, 0, stderr);
    t.regex(stdout, new RegExp(`^Snapshot 'of-${name}' was created on node 'node-[ab]', id of-`));
  }
  const listed = JSON.parse((await run('snapshot', 'list', '--json')).stdout) as object[];
  t.like(listed, { 0: { node: 'node-a' }, 1: { node: 'node-b' }, length: 2 });
  t.like(JSON.parse((await run('snapshot', 'get', 'of-two', '--json')).stdout), { node: 'node-b' });
  t.is((await run('volume', 'list', '-q')).stdout.split('\n').sort().join(' ').trim(), 'one two');
  t.is(
    (await run('snapshot', 'list', '-q')).stdout.split('\n').sort().join(' ').trim(),
    'of-one of-two',
  );
  const missing = await run('snapshot', 'delete', 'of-one', 'missing', '--yes');
  t.is(missing.exitCode, 1);
  t.regex(missing.stderr, /no node has a snapshot 'missing'/);
  t.is(a.snapshots.size, 1, 'nothing is deleted if one is not found');
  const deleted = await run('snapshot', 'delete', 'of-one', 'of-two', '--yes');
  t.is(deleted.stdout, "Snapshot 'of-one' was deleted.\nSnapshot 'of-two' was deleted.\n");
  t.is(a.snapshots.size + b.snapshots.size, 0);
  const [id = ''] = [...a.volumes.keys()];
  const json = await run('volume', 'delete', id, 'two', '--yes', '--json');
  t.like(JSON.parse(json.stdout), [
    { id, name: 'one', node: 'node-a' },
    { name: 'two', node: 'node-b' },
  ]);
  t.is(a.volumes.size + b.volumes.size, 0);
});

test('a name that several nodes have is refused, and an id is asked for at its node alone', async (t) => {
  const { a, b, run, createOn } = await start(t);
  await createOn('same', 'node-a');
  const [[id, volume] = []] = [...a.volumes];
  if (id === undefined || volume === undefined) return t.fail('no volume');
  const other = id.replace(a.tag, b.tag);
  b.volumes.set(other, { ...volume, volume_id: other });
  const { stderr } = await run('volume', 'delete', 'same', '--yes');
  t.regex(stderr, /several nodes have a volume 'same': name one by its id/);
  t.true(stderr.includes(id) && stderr.includes(other));
  await b.cut();
  t.is((await run('volume', 'delete', id, '--yes')).stdout, "Volume 'same' was deleted.\n");
  t.is(a.volumes.size, 0);
});

test('snapshot create waits for a copy, and fails if the copy does', async (t) => {
  const { a, run, createOn } = await start(t);
  await createOn('data', 'node-a');
  a.isSnapshotReady = false;
  let asked = 0;
  a.before = async (rpc) => {
    if (rpc !== 'GetSnapshot') return;
    asked += 1;
    if (asked < 2) return;
    for (const [id, snapshot] of a.snapshots) {
      a.snapshots.set(id, { ...snapshot, ready_to_use: true });
    }
  };
  const copied = await run('snapshot', 'create', 'data', 'copied');
  t.is(copied.exitCode, 0, copied.stderr);
  t.regex(copied.stdout, /^Snapshot 'copied' was created on node 'node-a'/);
  t.true(asked >= 2);
  const unwaited = await run('snapshot', 'create', 'data', 'unwaited', '--no-wait');
  t.regex(unwaited.stdout, /^Snapshot 'unwaited' is being copied on node 'node-a'/);
  a.before = async (rpc) => {
    if (rpc === 'GetSnapshot') a.snapshots.clear();
  };
  const failed = await run('snapshot', 'create', 'data', 'failing');
  t.is(failed.exitCode, 1);
  t.regex(failed.stderr, /the copy failed, or snapshot 'failing\.[0-9a-f]{8}' was deleted/);
});

test('lists are filtered, or refuse a filter that a controller cannot apply', async (t) => {
  const { run, createOn } = await start(t);
  await createOn('one', 'node-a');
  await createOn('two', 'node-b');
  for (const name of ['one', 'two']) await run('snapshot', 'create', name, `of-${name}`);
  const listed = async (...argv: readonly string[]): Promise<string> => {
    const { exitCode, stdout, stderr } = await run(...argv, '-q');
    t.is(exitCode, 0, stderr);
    return stdout.trim().split('\n').sort().join(' ');
  };
  t.is(await listed('snapshot', 'list', '--volume', 'two'), 'of-two');
  t.is(await listed('volume', 'list', '--pool', 'default'), 'one two');
  t.is(await listed('volume', 'list', '--pool', 'other'), '');
  const claim = await run('volume', 'list', 'shop/data');
  t.is(claim.exitCode, 2);
  t.regex(
    claim.stderr,
    /'shop\/data': a controller does not know the claims of volumes; use kubectl/,
  );
  const pool = await run('snapshot', 'list', '--pool', 'default');
  t.is(pool.exitCode, 2);
  t.regex(pool.stderr, /--pool: a controller does not know the pools of snapshots/);
  const missing = await run('snapshot', 'list', '--volume', 'none');
  t.is(missing.exitCode, 1);
  t.regex(missing.stderr, /no node has a volume 'none'/);
});
