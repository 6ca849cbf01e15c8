import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { Command } from 'commander';
import { pino } from 'pino';
import {
  ConfigError,
  configForLog,
  loadConfig,
  unknownVariables,
} from '../../../src/config/load.ts';
import { addServeOptions, optionKeys, optionsAsMarkdown } from '../../../src/config/options.ts';
import { GiB, MiB } from '../../../src/units.ts';

const flagsOf = (...argv: string[]): Record<string, unknown> =>
  addServeOptions(new Command().exitOverride().configureOutput({ writeErr: () => undefined }))
    .parse(argv, { from: 'user' })
    .opts();

async function problemsOf(load: Promise<unknown>): Promise<readonly string[]> {
  try {
    await load;
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  return [];
}

test('by default there is one pool, which is created at the first start', async (t) => {
  const config = await loadConfig({}, {});
  t.is(config.endpoint, '/run/loopcsi/csi.sock');
  t.is(config.driverName, 'loopcsi.io');
  t.is(config.ephemeralMaxSize, 10n * GiB);
  t.is(config.shutdownTimeout, 20_000);
  t.is(config.kubeletDir, undefined);
  t.deepEqual(config.httpAddress, { host: '127.0.0.1', port: 9736 });
  t.is(config.pools.length, 1);
  t.like(config.pools[0], {
    name: 'default',
    path: '/var/lib/loopcsi/pools/default',
    create: true,
  });
  t.is(config.explicit.size, 0);
  t.true(Object.isFrozen(config));
});

test('a flag overrides the environment, which overrides the file', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-config-'));
  t.teardown(async () => rm(directory, { recursive: true }));
  const file = join(directory, 'config.yaml');
  await writeFile(
    file,
    'nodeId: from-file\ndefaultFstype: xfs\nlogLevel: debug\nmaxVolumes: 7\nwithoutStaging: true\npool:\n  - fast=/mnt/fast,mountpoint=required\n',
  );
  const config = await loadConfig(flagsOf('--config', file, '--node-id', 'from-flag'), {
    LOOPCSI_NODE_ID: 'from-environment',
    LOOPCSI_LOG_LEVEL: 'warn',
  });
  t.is(config.nodeId, 'from-flag');
  t.is(config.logLevel, 'warn');
  t.is(config.defaultFstype, 'xfs');
  t.is(config.maxVolumes, 7);
  t.true(config.withoutStaging);
  t.like(config.pools[0], { name: 'fast', mountpointRequired: true, create: false });
  t.true(config.explicit.has('nodeId'));
});

test('pools are repeated flags, or separated by spaces in the environment', async (t) => {
  const flags = flagsOf(
    '--pool',
    'a=/srv/a,create',
    '--pool',
    'b=/srv/b,reserve=10Gi,overcommit=1.5',
  );
  const [a, b] = (await loadConfig(flags, {})).pools;
  t.like(a, { name: 'a', create: true, overcommitPerMille: 1000, reserve: { perMille: 50 } });
  t.like(b, { name: 'b', overcommitPerMille: 1500, reserve: { bytes: 10n * GiB } });
  const other = await loadConfig(
    {},
    { LOOPCSI_POOL: 'a=/srv/a,reserve=2.5%  b=/srv/b,reflink=20Gi' },
  );
  t.like(other.pools[0], { reserve: { perMille: 25 } });
  t.like(other.pools[1], { reflinkBytes: 20n * GiB });
});

test('a maximum size of 0 disables inline volumes, whatever the default size', async (t) => {
  const config = await loadConfig(flagsOf('--ephemeral-max-size', '0'), {});
  t.is(config.ephemeralMaxSize, 0n);
});

test('cluster pools are names separated by commas', async (t) => {
  t.is((await loadConfig({}, {})).clusterPools, undefined);
  const { clusterPools } = await loadConfig(flagsOf('--cluster-pools', 'fast,bulk'), {});
  t.deepEqual(clusterPools, ['fast', 'bulk']);
});

const wrong = [
  {
    flags: ['--endpoint', 'tcp://0.0.0.0:1'],
    says: /^flag --endpoint: .*not a unix socket; .*unix:/,
  },
  { flags: ['--endpoint', `unix:///${'x'.repeat(106)}`], says: /107 bytes.*at most 106/ },
  { flags: ['--driver-name', 'Loop_CSI'], says: /^flag --driver-name: .*domain name/ },
  { flags: ['--driver-name', `${'a'.repeat(60)}.csi`], says: /at most 63/ },
  { flags: ['--node-id', 'n'.repeat(257)], says: /1 to 256 bytes/ },
  { flags: ['--default-size', '10X'], says: /^flag --default-size: '10X' is not a size/ },
  { flags: ['--default-fstype', 'ntfs'], says: /ext4, xfs, btrfs/ },
  { flags: ['--expansion', 'controller'], says: /both, node/ },
  { flags: ['--log-level', 'loud'], says: /trace, debug/ },
  { flags: ['--shutdown-timeout', '20'], says: /'20' is not a duration/ },
  { flags: ['--max-volumes', '0'], says: /whole number above 0/ },
  { flags: ['--http-address', 'localhost'], says: /HOST:PORT/ },
  { flags: ['--http-address', ':70000'], says: /HOST:PORT/ },
  { flags: ['--kubelet-dir', 'var/lib'], says: /absolute path/ },
  { flags: ['--pool', '/srv/a'], says: /NAME=DIR/ },
  { flags: ['--pool', 'A=/srv/a'], says: /lower-case/ },
  { flags: ['--pool', 'a=srv'], says: /absolute path/ },
  {
    flags: ['--pool', 'a=/srv/a,creat'],
    says: /option 'creat' is not known; known options: create/,
  },
  { flags: ['--pool', 'a=/srv/a,mountpoint=maybe'], says: /'mountpoint=maybe' is not known/ },
  { flags: ['--pool', 'a=/srv/a,overcommit=0.5'], says: /1\.0 or more/ },
  { flags: ['--pool', 'a=/srv/a,reserve=lots'], says: /'lots' is not a size/ },
  { flags: ['--pool', 'a=/srv/a,reserve=200%'], says: /reserve=200% is not a percentage/ },
  { flags: ['--pool', 'a=/srv/a', '--pool', 'a=/srv/b'], says: /two pools are named 'a'/ },
  { flags: ['--pool', 'a=/srv', '--pool', 'b=/srv/b/'], says: /directories of .* overlap/ },
  {
    flags: ['--pool', 'a=/srv', '--state-dir', '/srv/state'],
    says: /^flag --state-dir: .*outside/,
  },
  { flags: ['--cluster-pools', 'a,B'], says: /'B' is not a pool name/ },
  { flags: ['--ephemeral-default-size', '20Gi'], says: /must not exceed --ephemeral-max-size/ },
] as const;
for (const { flags, says } of wrong) {
  test(`flags are refused: ${flags.join(' ').slice(0, 70)}`, async (t) => {
    const problems = await problemsOf(loadConfig(flagsOf(...flags), {}));
    t.is(problems.length, 1);
    t.regex(problems[0] ?? '', says);
  });
}

test('all problems are reported at once, each with its origin', async (t) => {
  const problems = await problemsOf(
    loadConfig(flagsOf('--default-size', 'x'), { LOOPCSI_EXPANSION: 'x', LOOPCSI_NODE_ID: '' }),
  );
  t.is(problems.length, 2);
  t.true(problems.some((problem) => problem.startsWith('flag --default-size: ')));
  t.true(
    problems.some((problem) => problem.startsWith('environment variable LOOPCSI_EXPANSION: ')),
  );
});

const badFiles = [
  { content: 'nodeID: a\n', says: /^key nodeID in .* is not known; known keys: endpoint/ },
  { content: '- a\n', says: /of the form 'key: value'/ },
  { content: 'pool:\n  a: /srv\n', says: /^key pool in .*: use plain text/ },
  { content: 'logLevel: [debug, info]\n', says: /^key logLevel in .*: accepts only one value/ },
  { content: 'a: [\n', says: /^configuration file / },
] as const;
for (const { content, says } of badFiles) {
  test(`a configuration file is refused: ${JSON.stringify(content)}`, async (t) => {
    const directory = await mkdtemp(join(tmpdir(), 'loopcsi-config-'));
    t.teardown(async () => rm(directory, { recursive: true }));
    const file = join(directory, 'config.yaml');
    await writeFile(file, content);
    const problems = await problemsOf(loadConfig({ config: file }, {}));
    t.regex(problems.join('\n'), says);
  });
}

test('a file with several faults: all are reported', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-config-'));
  t.teardown(async () => rm(directory, { recursive: true }));
  const file = join(directory, 'config.yaml');
  await writeFile(
    file,
    'nodeID: a\npool:\n  - a=/srv,foo\n  - b=c\nstateDir: {}\nlogLevel: loud\n',
  );
  const problems = await problemsOf(loadConfig({ config: file }, {}));
  const places = problems.map((problem) => problem.replace(/ in .*$/, ''));
  t.deepEqual(places, ['key nodeID', 'key pool', 'key pool', 'key stateDir', 'key logLevel']);
});

test('a missing file is an error', async (t) => {
  const problems = await problemsOf(loadConfig({ config: '/nonexistent/loopcsi.yaml' }, {}));
  t.regex(problems[0] ?? '', /^configuration file \/nonexistent\/loopcsi\.yaml: ENOENT/);
});

test('the log line of the configuration has byte counts as numbers, and the explicit options', async (t) => {
  let line = '';
  const log = pino({}, { write: (text) => (line = text) });
  log.info(configForLog(await loadConfig(flagsOf('--default-size', '5Mi'), {})));
  const shown = JSON.parse(line) as Record<string, unknown>;
  t.is(shown['defaultSize'], Number(5n * MiB));
  t.deepEqual(shown['explicit'], ['defaultSize']);
});

test('docs/configuration.md has the table of the options', async (t) => {
  const docs = await readFile(
    join(import.meta.dirname, '..', '..', '..', '..', 'docs', 'configuration.md'),
    'utf8',
  );
  t.true(docs.includes(optionsAsMarkdown()), `put this into the file:\n\n${optionsAsMarkdown()}`);
  t.true(optionKeys.length > 15);
});

test('a misspelt variable is found, variables of others are ignored', (t) => {
  const found = unknownVariables({
    LOOPCSI_POOLS: 'a=/srv/a',
    LOOPCSI_POOL: 'a=/srv/a',
    LOOPCSI_CONFIG: '/etc/loopcsi.yaml',
    LOOPCSI_CACHE: '/tmp',
    LOOPCSI_NODE: '/usr/bin/node',
    // Kubernetes sets these in every pod if there is a Service named loopcsi.
    LOOPCSI_SERVICE_HOST: '10.0.0.1',
    LOOPCSI_METRICS_PORT_9736_TCP_ADDR: '10.0.0.1',
    LOOPCSI_PORT: 'tcp://10.0.0.1:9736',
    PATH: '/bin',
  });
  t.deepEqual(found, ['LOOPCSI_POOLS']);
});
