import { PassThrough } from 'node:stream';
import test, { type ExecutionContext } from 'ava';
import { Command } from 'commander';
import { addControlledNodeCommands } from '../../../../src/cli/cluster/controlled-nodes.ts';
import { Session } from '../../../../src/cli/session.ts';
import { Terminal } from '../../../../src/cli/terminal.ts';
import { nodeTagOf, volumeIdFor } from '../../../../src/ids.ts';
import { driverName, type FakeCluster, makeFakeCluster } from '../../../helpers/fake-cluster.ts';

const tag = nodeTagOf('n7');
const row = {
  ...{ name: 'n7', tag, state: 'unreachable', reason: 'cut', since: '2026-01-01T00:00:00.000Z' },
  ...{
    addresses: [],
    version: '1',
    pools: ['default'],
    volumeCount: 1,
    undecidedGroups: [],
    forgottenAt: null,
  },
};

/** A cluster with a controller, whose pod answers these commands. */
function clusterWith(answers: Readonly<Record<string, unknown>>): FakeCluster {
  const cluster = makeFakeCluster();
  cluster.objects['pods']?.push({
    metadata: {
      name: 'loopcsi-controller-0',
      namespace: 'loopcsi',
      labels: { 'app.kubernetes.io/part-of': 'loopcsi' },
    },
    spec: {
      containers: [{ name: 'controller', args: ['controller', `--driver-name=${driverName}`] }],
    },
    status: { conditions: [{ type: 'Ready', status: 'True' }] },
  });
  cluster.answers['loopcsi-controller-0'] = Object.fromEntries(
    Object.entries(answers).map(([command, answer]) => [command, JSON.stringify(answer)]),
  );
  for (const [name, node] of [
    ['v1', 'n7'],
    ['v2', 'n8'],
  ] as const) {
    cluster.objects['persistentvolumes']?.push({
      metadata: { name },
      spec: {
        csi: { driver: driverName, volumeHandle: volumeIdFor(name, nodeTagOf(node)) },
        claimRef: { namespace: 'shop', name: `claim-of-${name}` },
      },
    });
  }
  return cluster;
}

async function run(cluster: FakeCluster, ...args: readonly string[]): Promise<string> {
  const stdout = new PassThrough();
  const terminal = new Terminal(
    { stdin: new PassThrough(), stdout, stderr: new PassThrough() },
    {},
  );
  const session = new Session({ terminal, environment: {}, version: '1' });
  const program = new Command().exitOverride();
  const access = { kubectl: cluster.kubectl, driver: driverName };
  addControlledNodeCommands(program, session, () => access);
  await program.parseAsync(['node', ...args], { from: 'user' });
  return String(stdout.read() ?? '');
}

const forgotten = { name: 'n7', tag, wasForgotten: false, wasKnown: true };

test('node list asks a pod of the controller', async (t) => {
  const text = await run(clusterWith({ 'node list --json': [row] }), 'list');
  t.regex(text, /n7 +\w{8} +unreachable +2026-01-01T00:00:00Z +1 +default +cut/);
});

test('node forget names the claims whose data is given up, and deletes none', async (t) => {
  const cluster = clusterWith({
    'node list --json': [row],
    'node forget n7 --yes --json': forgotten,
  });
  const text = await run(cluster, 'forget', 'n7', '--yes');
  t.regex(text, /Node 'n7' was forgotten/);
  t.regex(text, /kubectl delete pvc --namespace shop claim-of-v1\n/);
  t.notRegex(text, /claim-of-v2/);
  t.true(cluster.commands.every(([verb]) => verb === 'get' || verb === 'exec'));
});

test('node forget --yes of a node whose Node object is Ready needs --force', async (t) => {
  const cluster = clusterWith({
    'node list --json': [row],
    'node forget n7 --yes --force --json': forgotten,
    'node forget n8 --yes --address=10.0.0.8:1 --json': { ...forgotten, name: 'n8' },
  });
  cluster.objects['nodes']?.push({
    metadata: { name: 'n7' },
    status: { conditions: [{ type: 'Ready', status: 'True' }] },
  });
  t.regex(await failing(t, cluster, 'forget', 'n7', '--yes'), /is Ready.*--force/);
  t.false(cluster.commands.some((command) => command.includes('--yes')));
  t.regex(await run(cluster, 'forget', 'n7', '--yes', '--force'), /Node 'n7' was forgotten/);
  const named = await run(cluster, 'forget', 'n8', '--yes', '--address', '10.0.0.8:1');
  t.regex(named, /Node 'n8' was forgotten/);
});

const failing = async (t: ExecutionContext, cluster: FakeCluster, ...args: readonly string[]) =>
  (await t.throwsAsync(run(cluster, ...args))).message;

test('node forget asks first, and passes the refusal of the controller on', async (t) => {
  const cluster = clusterWith({ 'node list --json': [row] });
  t.regex(await failing(t, cluster, 'forget', 'n7'), /with 1 PersistentVolume\? .*--yes/);
  t.false(cluster.commands.some((command) => command.includes('forget')));
  const { attempt } = cluster.kubectl;
  const message = "node 'n7' is ready, and its volumes may be in use";
  const refusing: FakeCluster['kubectl'] = {
    ...cluster.kubectl,
    attempt: async (...args) =>
      args.includes('forget')
        ? {
            exitCode: 1,
            stdout: '',
            stderr: `${JSON.stringify({ error: { code: 'FAILED_PRECONDITION', message } })}\ncommand terminated with exit code 1`,
          }
        : attempt(...args),
  };
  t.is(await failing(t, { ...cluster, kubectl: refusing }, 'forget', 'n7', '--yes'), message);
});

test('node remember, and names that would be flags in the pod', async (t) => {
  const cluster = clusterWith({
    'node remember n7 --json': { name: 'n7', tag, wasForgotten: true },
  });
  t.regex(await run(cluster, 'remember', 'n7'), /is used again, with the data that it has/);
  for (const command of ['forget', 'remember'])
    t.regex(await failing(t, cluster, command, '--', '--x'), /not the name of a node/);
});

test('without a controller, the message names the value of the chart', async (t) => {
  t.regex(await failing(t, makeFakeCluster(), 'list'), /controller\.enabled/);
});
