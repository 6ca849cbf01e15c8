import { PassThrough } from 'node:stream';
import { Server } from '@grpc/grpc-js';
import test, { type ExecutionContext } from 'ava';
import { runCommandLine } from '../../../src/cli/program.ts';
import { serviceDefinition } from '../../../src/csi/codec.ts';
import { listenOnOwnSocket } from '../../helpers/listen.ts';

type Callback = (error: null, response: object) => void;

/** A driver without volumes, and with one pool that was read and one that was not. Returns its socket. */
async function serveTwoPools(t: ExecutionContext): Promise<string> {
  const server = new Server();
  const respond = (response: object) => (_call: unknown, callback: Callback) => {
    callback(null, response);
  };
  server.addService(serviceDefinition('csi.v1.Identity'), {
    GetPluginInfo: respond({ name: 'loopcsi.io', vendor_version: '1', manifest: {} }),
  });
  const reason = "pool 'b': /srv/b is not mounted; mount it";
  server.addService(serviceDefinition('loopcsi.v1.Admin'), {
    ListVolumes: respond({ volumes: [], next_token: '' }),
    ListSnapshots: respond({ snapshots: [], next_token: '' }),
    ListGroupSnapshots: respond({ group_snapshots: [] }),
    MeasureVolumes: respond({ volumes: [], measured_ms: 1 }),
    ListPools: respond({
      pools: [
        { name: 'a', state: 'SERVED', never_read: false },
        { name: 'b', state: 'UNAVAILABLE', reason, never_read: true },
      ],
    }),
  });
  return listenOnOwnSocket(t, server);
}

async function run(
  socket: string,
  argv: readonly string[],
  stdout: PassThrough & { isTTY?: boolean } = new PassThrough(),
) {
  const streams = { stdin: new PassThrough(), stdout, stderr: new PassThrough() };
  const exitCode = await runCommandLine([...argv, '--endpoint', socket], {
    streams,
    environment: { NO_COLOR: '1' },
    version: '1',
  });
  const textOf = (stream: PassThrough): string => String(stream.read() ?? '');
  return { exitCode, stdout: textOf(stdout), stderr: textOf(streams.stderr) };
}

const warning =
  "What pool 'b' contains is missing here, because it has not been read since the driver started: pool 'b': /srv/b is not mounted; mount it\n";

for (const command of ['volume list', 'snapshot list', 'snapshot group list', 'top --once']) {
  test(`${command} warns of a pool that was never read`, async (t) => {
    const socket = await serveTwoPools(t);
    const argv = command.split(' ');
    const table = await run(socket, argv);
    t.is(table.exitCode, 0, table.stderr);
    t.true(table.stdout.endsWith(warning), table.stdout);
    const json = await run(socket, [...argv, '--json']);
    t.deepEqual(JSON.parse(json.stdout), []);
    t.is(json.stderr, warning);
  });
}

test('on a terminal, an empty list has the warning, and does not say that there are no volumes', async (t) => {
  const socket = await serveTwoPools(t);
  const screen = Object.assign(new PassThrough(), { isTTY: true, columns: 400 });
  const { stdout } = await run(socket, ['volume', 'list'], screen);
  t.false(stdout.includes('There are no volumes yet'));
  t.true(stdout.includes(warning.trim()), stdout);
});

test('a list of one pool has no warning of another', async (t) => {
  const socket = await serveTwoPools(t);
  const { stdout, stderr } = await run(socket, ['volume', 'list', '--pool', 'a']);
  t.false(`${stdout}${stderr}`.includes('missing'));
});
