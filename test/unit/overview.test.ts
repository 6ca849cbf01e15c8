import test from 'ava';
import { overviewOf, type ShownPool } from '../../src/overview.ts';

const GiB = 1n << 30n;

function pool(name: string, facts: Partial<ShownPool> = {}): ShownPool {
  return {
    settings: {
      name,
      path: `/pools/${name}`,
      create: true,
      force: false,
      mountpointRequired: false,
      overcommitPerMille: 1000,
      reserve: { perMille: 50 },
    } as ShownPool['settings'],
    problem: undefined,
    abilities: { filesystem: 'xfs', reflink: true, directIo: true, discard: true },
    capacityBytes: 5n * GiB,
    volumeCount: 0,
    ...facts,
  };
}

const overview = (
  pools: readonly ShownPool[],
  config: { readonly endpoint?: string; readonly dockerSocket?: string } = {},
): string =>
  overviewOf({
    version: '1.2.3',
    config: {
      endpoint: '/run/loopcsi/csi.sock',
      dockerSocket: undefined,
      httpAddress: { host: '127.0.0.1', port: 9736 },
      ...config,
    },
    httpPort: 9736,
    pools,
    command: 'loopcsi',
  });

const commandsIn = (text: string): readonly string[] =>
  text.split('\n').filter((line) => /^ {2}(?:loopcsi|docker) /.test(line));

test('the overview names sockets, addresses and pools, and says how to stop the driver', (t) => {
  const text = overview([pool('fast', { volumeCount: 1 })]);
  t.regex(text, /^loopcsi 1\.2\.3 is ready\.$/m);
  t.regex(text, /^ {2}CSI and command line {2}\/run\/loopcsi\/csi\.sock$/m);
  t.regex(text, /^ {2}Docker +not served; --docker-socket \/run\/docker\/plugins\/loopcsi\.sock /m);
  t.regex(text, /^ {2}Metrics and health +http:\/\/127\.0\.0\.1:9736\/metrics and \/readyz$/m);
  t.regex(text, /^ {2}Pool fast +\/pools\/fast, xfs, 1 volume, 5 GiB available$/m);
  t.regex(text, /^Ctrl-C stops the driver\./m);
});

test('an empty pool: the commands create and mount a volume', (t) => {
  t.deepEqual(commandsIn(overview([pool('default')])), [
    '  loopcsi volume create data --size 1Gi',
    '  loopcsi volume mount data /mnt/data',
    '  loopcsi volume list',
    '  loopcsi doctor',
  ]);
});

test('with several pools, the commands name the one with the most free space', (t) => {
  const pools = [pool('a'), pool('b', { capacityBytes: 9n * GiB }), pool('c')];
  t.is(commandsIn(overview(pools))[0], '  loopcsi volume create data --size 1Gi --pool b');
});

test('the commands name a socket that is not the default', (t) => {
  const commands = commandsIn(overview([pool('a')], { endpoint: '/tmp/x.sock' }));
  t.true(commands.every((line) => line.endsWith(' --endpoint unix:///tmp/x.sock')));
});

test('a pool that is not served is shown with its problem, and the commands explain it', (t) => {
  const problem = "pool 'a': /pools/a does not exist; create it";
  const text = overview([pool('a', { problem, capacityBytes: 0n })]);
  t.regex(text, /^ {2}Pool a +not served: \/pools\/a does not exist; create it$/m);
  t.deepEqual(commandsIn(text), ['  loopcsi pool list', '  loopcsi doctor']);
});

test('no command creates a volume where there are some, or too little space', (t) => {
  const some = overview([pool('a', { volumeCount: 2 })]);
  const full = overview([pool('a', { capacityBytes: GiB - 1n })]);
  for (const text of [some, full]) t.notRegex(text, /volume create/);
});

test('Docker is shown with a command if dockerd finds the socket', (t) => {
  const found = overview([pool('a')], { dockerSocket: '/run/docker/plugins/disks.sock' });
  t.is(commandsIn(found).at(-1), '  docker volume create --driver disks --opt size=1Gi cache');
  const other = overview([pool('a')], { dockerSocket: '/tmp/disks.sock' });
  t.regex(other, /^ {2}Docker +\/tmp\/disks\.sock$/m);
  t.notRegex(other, /docker volume create/);
});
