import { access, mkdir, mkdtemp, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { execa } from 'execa';
import { makeRealHost } from '../../src/host/real-host.ts';
import { type CommandResult, runCommand, runOnTerminal } from '../helpers/command-line.ts';
import { type DriverProcess, startDriver } from '../helpers/driver.ts';
import { onNode } from '../helpers/on-node.ts';
import { mountsBelow, removeAll } from '../helpers/scratch-pool.ts';
import { until } from '../helpers/until.ts';

const launcher = join(import.meta.dirname, '..', '..', '..', 'bin', 'loopcsi');

interface Machine {
  readonly directory: string;
  readonly driver: DriverProcess;
  /** Runs a command in a pipe, requires exit code 0, and returns its output. */
  readonly ok: (...args: readonly string[]) => Promise<string>;
  /** The same with --json; returns the decoded output. */
  readonly json: <T>(...args: readonly string[]) => Promise<T>;
  readonly run: (...args: readonly string[]) => Promise<CommandResult>;
}

/** Starts a driver on an empty pool. After the test it is removed with everything it created; mounts and devices may not be left. */
async function startMachine(t: ExecutionContext): Promise<Machine> {
  const directory = await mkdtemp('/var/tmp/loopcsi-command-line-');
  t.teardown(() => leaveNothing(directory));
  const driver = await startDriver(directory, ['--http-address=off']);
  t.teardown(() => driver.stop());
  const run: Machine['run'] = (...args) => runCommand(driver.endpoint, ...args);
  const ok: Machine['ok'] = async (...args) => {
    const { exitCode, stdout, stderr } = await run(...args);
    t.is(exitCode, 0, `${args.join(' ')}: ${stderr}`);
    return stdout;
  };
  return {
    directory,
    driver,
    run,
    ok,
    // docs/command-line.md lists the keys; a wrong key yields undefined.
    json: async <T>(...args: readonly string[]) => JSON.parse(await ok(...args, '--json')) as T,
  };
}

async function leaveNothing(directory: string): Promise<void> {
  const left = await removeAll(directory);
  if (left.length > 0) throw new Error(`left behind: ${left.join(', ')}`);
}

interface LimitsJson {
  readonly limits: Readonly<Record<string, number | null>>;
}

const noLimits = {
  readBytesPerSecond: null,
  writeBytesPerSecond: null,
  readIops: null,
  writeIops: null,
};

onNode(
  'volume limit shows, sets and clears limits, or says why this machine has none',
  async (t) => {
    const { json, ok, run } = await startMachine(t);
    await ok('volume', 'create', 'data', '--size', '32Mi');
    t.is(await ok('volume', 'limit', 'data'), "Volume 'data' has no I/O limits.");
    const limits = ['--write-bytes-per-second', '1Mi', '--read-iops', '500'];
    const refusal = await run('volume', 'limit', 'data', ...limits);
    const cgroup = await makeRealHost().deviceLimits.findCgroup();
    if ('path' in cgroup) {
      t.is(refusal.stdout.trim(), "Volume 'data' is limited: read 500 IOPS, write 1 MiB/s.");
      t.regex(await ok('volume', 'list', '-o', 'wide'), /LIMITS[^]*read 500 IOPS, write 1 MiB\/s/);
      const { limits: found } = await json<LimitsJson>('volume', 'get', 'data');
      t.deepEqual(found, { ...noLimits, writeBytesPerSecond: 1024 * 1024, readIops: 500 });
    } else {
      t.is(refusal.exitCode, 1);
      t.true(refusal.stderr.includes(`I/O limits cannot be set on this node: ${cgroup.problem}`));
    }
    t.deepEqual((await json<LimitsJson>('volume', 'limit', 'data', '--clear')).limits, noLimits);
    t.is((await run('volume', 'limit', 'data', '--clear', '--read-iops', '20')).exitCode, 2);
    const zero = await run('volume', 'limit', 'data', '--read-iops', '0');
    t.regex(zero.stderr, /readIops '0' is below the minimum of 10; use 'max' for no limit/);
    await ok('volume', 'delete', 'data', '--yes');
  },
);

interface VolumeJson {
  readonly id: string;
  readonly sizeBytes: number;
  readonly fsType: string | null;
  readonly publishedAt: readonly string[];
  readonly stagedAt: readonly string[];
  readonly loopDevice: string | null;
  readonly usedBytes: number | null;
}

onNode('a volume is created, mounted, expanded and deleted by its name', async (t) => {
  const { directory, ok, json, run } = await startMachine(t);
  t.regex(
    await ok('volume', 'create', 'data', '--size', '320Mi', '--fstype', 'xfs'),
    /'data' was created/,
  );
  const target = join(directory, 'mnt');
  await ok('volume', 'mount', 'data', target);
  await ok('volume', 'mount', 'data', target);
  await writeFile(join(target, 'file'), 'kept');

  const grown = await json<VolumeJson>('volume', 'expand', 'data', '--size', '400Mi');
  t.is(grown.sizeBytes, 400 * 1024 * 1024);
  const shrunk = await run('volume', 'expand', 'data', '--size', '350Mi');
  t.is(shrunk.exitCode, 1);
  t.regex(shrunk.stderr, /volume 'data' has 400 MiB and cannot shrink to 350 MiB/);
  const taken = await run('volume', 'export', 'data', join(target, 'file'));
  t.is(taken.exitCode, 1, 'the command line is right, but the file exists');
  t.regex(taken.stderr, /already exists; choose another file, or replace it with --force/);
  const sameSize = await ok('volume', 'expand', 'data', '--size', '409600Ki');
  t.is(sameSize, "Volume 'data' already has 400Mi.");
  t.is(await ok('volume', 'expand', 'data', '--size', '419430000'), sameSize, 'it was rounded up');
  const { id, publishedAt, loopDevice } = await json<VolumeJson>('volume', 'get', 'data');
  t.deepEqual(publishedAt, [target]);
  t.regex(loopDevice ?? '', /^\/dev\/loop\d+$/);
  t.regex(id, /^data\.[0-9a-f]{8}$/);

  const inUse = await run('volume', 'delete', 'data', '--yes');
  t.is(inUse.exitCode, 1);
  t.regex(inUse.stderr, /loopcsi volume unmount data/);

  t.is(await ok('volume', 'unmount', 'data'), `Volume 'data' was unmounted from ${target}.`);
  t.regex(await ok('volume', 'unmount', 'data'), /was not mounted/);
  t.true((await stat(target)).isDirectory(), 'the directory belongs to the user and stays');
  await ok('volume', 'mount', id, target);
  t.is(await readFile(join(target, 'file'), 'utf8'), 'kept');
  await ok('volume', 'unmount', id, target);
  const unasked = await run('volume', 'delete', 'data', '--json');
  t.is(unasked.exitCode, 2);
  t.is((JSON.parse(unasked.stderr) as { error: { code: string } }).error.code, 'USAGE');
  await ok('volume', 'delete', 'data', '--yes');
  t.is((await run('volume', 'get', 'data')).exitCode, 1);
});

interface TrimJson {
  readonly result: string;
  readonly returnedBytes: number;
  readonly allocatedBeforeBytes: number;
  readonly allocatedAfterBytes: number;
  readonly discardedBytes: number;
  readonly mountedPrivately: boolean;
}

onNode(
  'volume trim returns the blocks of deleted files, of mounted and of unused volumes',
  async (t) => {
    const { directory, ok, json, run } = await startMachine(t);
    const MiB = 1024 * 1024;
    await ok('volume', 'create', 'one', '--size', '128Mi');
    await ok('volume', 'create', 'two', '--size', '320Mi', '--fstype', 'xfs');
    await ok('volume', 'create', 'thick', '--size', '16Mi', '--provisioning', 'thick');
    const at = (name: string) => join(directory, name);
    for (const name of ['one', 'two']) {
      await ok('volume', 'mount', name, at(name));
      await writeFile(join(at(name), 'file'), Buffer.alloc(48 * MiB, 'x'));
      await execa('sync', ['--file-system', at(name)]);
      await rm(join(at(name), 'file'));
      await execa('sync', ['--file-system', at(name)]);
    }
    await ok('volume', 'unmount', 'two');
    const allocated = async (name: string) =>
      (await json<{ allocatedBytes: number }>('volume', 'get', name)).allocatedBytes;
    for (const [name, mountedPrivately] of [
      ['one', false],
      ['two', true],
    ] as const) {
      const before = await allocated(name);
      const [trimmed] = await json<readonly TrimJson[]>('volume', 'trim', name);
      t.like(trimmed, { result: 'trimmed', mountedPrivately, allocatedBeforeBytes: before });
      t.is(trimmed?.allocatedAfterBytes, await allocated(name), name);
      t.true((trimmed?.returnedBytes ?? 0) >= 47 * MiB, JSON.stringify(trimmed));
      t.true((trimmed?.discardedBytes ?? 0) >= 47 * MiB, JSON.stringify(trimmed));
    }
    t.deepEqual(await mountsBelow(join(directory, 'pool', 'tmp')), []);
    const thick = await run('volume', 'trim', 'thick');
    t.is(thick.exitCode, 1);
    t.regex(thick.stderr, /volume 'thick' cannot be trimmed: it is thick/);
    const all = await json<readonly TrimJson[]>('volume', 'trim', '--all');
    t.deepEqual(
      all.map(({ result }) => result),
      ['trimmed', 'refused', 'trimmed'],
    );
    t.is((await run('volume', 'trim')).exitCode, 2);
    await ok('volume', 'unmount', 'one');
  },
);

onNode('gc lists and removes an old entry of tmp/, and doctor --fix does so too', async (t) => {
  const { directory, json, run } = await startMachine(t);
  const path = join(directory, 'pool', 'tmp', '1.00000000-0000-4000-8000-000000000000.v.562f2833');
  const makeOld = async () => {
    await mkdir(path);
    const past = new Date(Date.now() - 3_600_000);
    await utimes(path, past, past);
  };
  t.is((await run('gc', '--dry-run')).stdout, 'Nothing is left over.', 'in a pipe, too');
  await makeOld();
  const listed = await json<readonly { kind: string; path: string }[]>('gc', '--dry-run');
  t.like(listed, [{ kind: 'incomplete-entry', path, remedy: null, pool: 'default' }]);
  t.is((await run('gc')).exitCode, 2, 'there is no terminal to ask on');
  await access(path);
  t.deepEqual(await json('gc', '--yes'), [{ path, problem: null }]);
  await t.throwsAsync(access(path));
  await makeOld();
  const fixed = await run('doctor', '--quiet', '--fix', '--yes');
  t.regex(fixed.stdout, /These will be removed:\n {2}incomplete-entry .*\nRemoved .*\.$/s);
  await t.throwsAsync(access(path));
});

onNode('a volume that is mounted below itself is unmounted, deepest path first', async (t) => {
  const { directory, ok, json, run } = await startMachine(t);
  await ok('volume', 'create', 'data', '--size', '32Mi');
  await ok('volume', 'create', 'other', '--size', '32Mi');
  t.regex(await ok('volume', 'create', 'data', '--size', '32Mi'), /'data' already exists/);
  const at = join(directory, 'data');
  for (const path of [at, join(at, 'sub'), join(at, 'sub', 'sub')]) {
    await ok('volume', 'mount', 'data', path);
  }
  await ok('volume', 'mount', 'other', join(at, 'other'));
  const refused = await run('volume', 'unmount', 'data', at);
  t.is(refused.exitCode, 1);
  t.regex(refused.stderr, /data\/(?:sub|other).* mounted below it; unmount that first/);
  await ok('volume', 'unmount', 'other');
  await ok('volume', 'unmount', 'data');
  t.deepEqual((await json<VolumeJson>('volume', 'get', 'data')).publishedAt, []);
});

onNode(
  'an unmount waits for users of the volume, and finally names the remaining ones',
  async (t) => {
    const { directory, ok, run } = await startMachine(t);
    await ok('volume', 'create', 'data', '--size', '32Mi');
    const at = join(directory, 'data');
    await ok('volume', 'mount', 'data', at);
    const user = execa('sleep', ['1000'], { cwd: at, reject: false });
    t.teardown(() => user.kill('SIGKILL'));
    const startedAtMs = performance.now();
    const refused = await run('volume', 'unmount', 'data');
    t.is(refused.exitCode, 1);
    t.true(performance.now() - startedAtMs > 14_000, 'it was tried again for 15 seconds');
    t.true(refused.stderr.includes(`in use by sleep (${String(user.pid)})`), refused.stderr);
    const unmounted = run('volume', 'unmount', 'data');
    setTimeout(() => user.kill('SIGKILL'), 2_000);
    t.is((await unmounted).exitCode, 0);
    await user;
  },
);

onNode('volumes are mounted read-only, at several directories and as block devices', async (t) => {
  const { directory, ok, json, run } = await startMachine(t);
  await ok('volume', 'create', 'data', '--size', '64Mi');
  const [one, two] = [join(directory, 'one'), join(directory, 'two')];
  await mkdir(one);
  await ok('volume', 'mount', 'data', one, '--options', 'noatime');
  await ok('volume', 'mount', 'data', two, '--options', 'noatime', '--read-only');
  await writeFile(join(one, 'file'), 'seen');
  t.is(await readFile(join(two, 'file'), 'utf8'), 'seen');
  await t.throwsAsync(writeFile(join(two, 'file'), 'no'), { code: 'EROFS' });
  const refusalOf = async (...args: readonly string[]): Promise<string> => {
    const { exitCode, stderr } = await run('volume', 'mount', ...args);
    t.not(exitCode, 0, args.join(' '));
    t.notRegex(
      stderr,
      /data\.[0-9a-f]{8}|stage|MULTI_WRITER|target_path|caller/,
      'the message does not use terms of CSI',
    );
    return stderr;
  };
  const remedy = /unmount it first: loopcsi volume unmount data$/m;
  const three = join(directory, 'three');
  for (const args of [
    ['data', one],
    ['data', three],
    ['data', three, '--options', 'nodev'],
  ]) {
    const message = await refusalOf(...args);
    t.true(
      message.includes(`'data' is mounted at ${one}, ${two} with other options (noatime)`) ||
        message.includes(`'data' is mounted at ${one} with other options (noatime)`),
      message,
    );
    t.regex(message, remedy);
  }
  const args = ['data', one, '--options', 'noatime', '--read-only'];
  t.regex(await refusalOf(...args), /'data' is mounted at \S+one with other options \(noatime\)/);
  t.regex(
    await refusalOf('data', two, '--options', 'noatime'),
    /two with other options \(read-only,noatime\)/,
  );
  const deep = join(directory, 'none', 'deep');
  t.regex(
    await refusalOf('data', deep, '--options', 'noatime'),
    /none does not exist.*create \S+none first/,
  );
  t.regex(
    await refusalOf('data', '/', '--options', 'noatime'),
    /'\/' is the root directory; give a directory below it/,
  );
  await t.throwsAsync(access(three), { code: 'ENOENT' });
  await ok('volume', 'unmount', 'data', two);
  const mounted = await json<VolumeJson>('volume', 'get', 'data');
  t.deepEqual(mounted.publishedAt, [one]);
  const [listed] = await json<readonly VolumeJson[]>('volume', 'list');
  t.true(Number(listed?.usedBytes) > 0);
  t.is(listed?.usedBytes, mounted.usedBytes);
  await ok('volume', 'unmount', 'data');
  t.is((await json<VolumeJson>('volume', 'get', 'data')).usedBytes, null);

  await ok('volume', 'create', 'raw', '--size', '16Mi', '--block');
  const device = join(directory, 'device');
  await ok('volume', 'mount', 'raw', device);
  t.true((await stat(device)).isBlockDevice());
  const [raw] = (await json<readonly VolumeJson[]>('volume', 'list')).slice(-1);
  t.is(raw?.fsType, null);
  await ok('volume', 'unmount', 'raw');
  await t.throwsAsync(access(device), { code: 'ENOENT' });
  await ok('volume', 'create', 'bytes', '--from', 'volume:data', '--block');
  t.is((await json<VolumeJson>('volume', 'get', 'bytes')).fsType, null);
  await ok('volume', 'create', 'files', '--from', 'volume:bytes', '--fstype', 'ext4');
  t.is((await json<VolumeJson>('volume', 'get', 'files')).fsType, 'ext4');
  await ok('volume', 'delete', 'raw', 'data', 'bytes', 'files', '--yes');
  t.deepEqual(await json('volume', 'list'), []);
});

onNode('snapshots are taken, listed, compared, restored, cloned and deleted', async (t) => {
  const { directory, ok, json, run } = await startMachine(t);
  const target = join(directory, 'mnt');
  await ok('volume', 'create', 'data', '--size', '64Mi');
  await ok('volume', 'mount', 'data', target);
  await writeFile(join(target, 'file'), 'first');
  const refused = await run('snapshot', 'create', 'data', 'never');
  const reflinks = refused.exitCode === 0;
  if (!reflinks) {
    t.regex(
      refused.stderr,
      /volume 'data' is in use.*\(--freeze\)/,
      'the message names the volume and the flag',
    );
    const clone = await run('volume', 'clone', 'data', 'never');
    t.regex(
      clone.stderr,
      /volume 'data' is in use, and its data must be copied: pool 'default' cannot share blocks\. .*\(loopcsi snapshot create data NAME --freeze; then restore that snapshot\)/,
    );
  }
  await ok('snapshot', 'create', 'data', 'early', '--freeze');
  await writeFile(join(target, 'file'), 'second');
  await ok('volume', 'unmount', 'data');
  const late = await json<{ ready: boolean; sourceVolumeId: string }>(
    'snapshot',
    'create',
    'data',
    'late',
  );
  t.true(late.ready);

  const named = await json<readonly { name: string }[]>('snapshot', 'list', '--volume', 'data');
  t.deepEqual(
    named.map(({ name }) => name).filter((name) => name !== 'never'),
    ['early', 'late'],
  );
  const diff = await json<{
    totalBytes: number;
    ranges: readonly { offset: number; bytes: number }[];
  }>('snapshot', 'diff', 'early', 'late');
  t.true(diff.totalBytes > 0);
  t.is(
    diff.ranges.reduce((sum, { bytes }) => sum + bytes, 0),
    diff.totalBytes,
  );

  t.regex(
    await ok('snapshot', 'restore', 'early', 'old', '--size', '80Mi'),
    /from snapshot 'early'/,
  );
  await ok('volume', 'clone', 'data', 'copy');
  await ok('volume', 'mount', 'old', join(directory, 'old'));
  await ok('volume', 'mount', 'copy', join(directory, 'copy'));
  t.is(await readFile(join(directory, 'old', 'file'), 'utf8'), 'first');
  t.is(await readFile(join(directory, 'copy', 'file'), 'utf8'), 'second');
  await ok('volume', 'unmount', 'old');
  await ok('volume', 'unmount', 'copy');
  await ok('snapshot', 'delete', 'early', 'late', '--yes');
  t.is((await run('snapshot', 'get', 'late')).exitCode, 1);
});

onNode('on a terminal there are tables and questions, and the answer no cancels', async (t) => {
  const { ok, driver, json } = await startMachine(t);
  await ok('volume', 'create', 'data', '--size', '16Mi');
  const list = await runOnTerminal(driver.endpoint, ['volume', 'list']);
  t.is(list.exitCode, 0);
  t.true(list.shown.includes('\u001b[1mNAME'), 'titles are bold');
  t.regex(list.shown, /data +16Mi/);

  const no = await runOnTerminal(driver.endpoint, ['volume', 'delete', 'data'], 'n\n');
  t.is(no.exitCode, 1);
  t.regex(no.shown, /deleted with all their data/);
  t.is((await json<readonly VolumeJson[]>('volume', 'list')).length, 1);

  const yes = await runOnTerminal(driver.endpoint, ['volume', 'delete', 'data'], 'y\n');
  t.is(yes.exitCode, 0);
  t.deepEqual(await json('volume', 'list'), []);
  const empty = await runOnTerminal(driver.endpoint, ['volume', 'list']);
  t.regex(empty.shown, /There are no volumes yet/);
});

onNode(
  'in a pipe there are no questions and no colours; usage errors exit with 2, failures with 1',
  async (t) => {
    const { ok, run, driver } = await startMachine(t);
    await ok('volume', 'create', 'data', '--size', '16Mi');
    const listed = await run('volume', 'list');
    t.false(listed.stdout.includes('\u001b'));
    t.regex(listed.stdout, /\ndata {2}- +16Mi +\d+Ki {2}ext4 +default {2}ok +- +-$/);

    const cases: readonly (readonly [number, readonly string[]])[] = [
      [2, ['volume', 'delete', 'data']],
      [2, ['volume', 'create', 'x', '--size', 'ten']],
      [2, ['volume', 'create', 'x', '--fstype', 'fat']],
      [2, ['volume', 'create', 'x', '--block', '--fstype', 'xfs']],
      [2, ['volume', 'create']],
      [2, ['volume', 'nonsense']],
      [1, ['volume', 'mount', 'data', '/tmp/x', '--options', 'errors=panic']],
      [1, ['pool', 'init', 'nowhere']],
      [2, ['--endpoint', 'relative', 'volume', 'list']],
      [2, []],
      [1, ['volume', 'get', 'absent']],
      [1, ['volume', 'create', 'data', '--size', '1Gi']],
      [1, ['pool', 'adopt', 'absent']],
      [0, ['volume', 'create', '--help']],
      [0, ['--version']],
    ];
    for (const [exitCode, args] of cases) {
      const ran = await run(...args);
      t.is(ran.exitCode, exitCode, `${args.join(' ')}: ${ran.stdout}${ran.stderr}`);
      t.notRegex(ran.stderr, /^\s+at /m, 'no stack is shown');
    }
    const failed = await run('volume', 'get', 'absent', '--json');
    t.is((JSON.parse(failed.stderr) as { error: { code: string } }).error.code, 'NOT_FOUND');
    t.truthy(driver.pid);
  },
);

onNode(
  'pools are listed, created for a future driver, and adopted from another node',
  async (t) => {
    const { directory, ok, json, run, driver } = await startMachine(t);
    interface PoolJson {
      readonly name: string;
      readonly state: string;
      readonly existed?: boolean;
      readonly volumeCount: number;
    }
    t.deepEqual(
      (await json<readonly PoolJson[]>('pool', 'list')).map(
        ({ name, state }) => `${name} ${state}`,
      ),
      ['default served'],
    );
    const other = join(directory, 'other');
    const made = await json<PoolJson>('pool', 'init', `other=${other}`);
    t.is(made.existed, false);
    t.is((await json<PoolJson>('pool', 'init', `other=${other}`)).existed, true);
    const full = await run('pool', 'init', `full=${directory}`);
    t.regex(full.stderr, /not empty/);

    const created = await json<VolumeJson>('volume', 'create', 'moved', '--size', '16Mi');
    await driver.stop();
    const otherNode = await startDriver(directory, [
      '--http-address=off',
      '--node-id=other-node',
      `--pool=default=${join(directory, 'pool')}`,
      // A driver without a served pool is not ready.
      `--pool=spare=${join(directory, 'spare')},create`,
    ]);
    t.teardown(() => otherNode.stop());
    const [before] = await json<readonly PoolJson[]>('pool', 'list');
    t.is(before?.state, 'unavailable');
    t.regex(
      await ok('pool', 'adopt', 'default'),
      /now belongs to this node: 1 volume, 0 snapshots/,
    );
    const [volume] = await json<readonly VolumeJson[]>('volume', 'list');
    t.true(volume?.id.startsWith('moved.'));
    t.not(volume?.id, created.id);
    await ok('volume', 'mount', 'moved', join(directory, 'mnt'));
    await ok('volume', 'unmount', 'moved');
    await ok('volume', 'delete', 'moved', '--yes');
  },
);

onNode(
  'without a driver, doctor and pool init work, and other commands say how to start one',
  async (t) => {
    const directory = await mkdtemp('/var/tmp/loopcsi-command-line-');
    t.teardown(() => leaveNothing(directory));
    const endpoint = join(directory, 'csi.sock');
    const run = (...args: readonly string[]): Promise<CommandResult> =>
      runCommand(endpoint, ...args);
    const list = await run('volume', 'list');
    t.is(list.exitCode, 1);
    t.regex(list.stderr, /no driver is running.*loopcsi serve/s);

    const state = ['--state-dir', join(directory, 'state'), '--node-id', 'test-node'];
    const pool = join(directory, 'pool');
    t.regex(
      (await run('pool', 'init', `default=${pool}`, ...state)).stdout,
      /was created at .*serve/s,
    );
    const doctor = await run('doctor', ...state, '--pool', `default=${pool}`, '--json');
    const findings = JSON.parse(doctor.stdout) as readonly { name: string; state: string }[];
    const stateOf = (name: string): string | undefined =>
      findings.find((one) => one.name === name)?.state;
    t.is(stateOf('driver'), 'warn');
    t.is(stateOf('pool:default'), 'ok');
    t.is(stateOf('loop-control'), 'ok');

    const shared = join(directory, 'shared');
    t.is(
      (await run('pool', 'init', `shared=${shared}`, '--reflink', '320Mi', ...state)).exitCode,
      0,
    );
    t.deepEqual(await mountsBelow(directory), [], 'a pool that is not served is not mounted');

    const driver = await startDriver(directory, [
      '--http-address=off',
      `--pool=default=${pool}`,
      `--pool=shared=${shared}`,
    ]);
    const { stdout } = await run('pool', 'list');
    t.regex(stdout, /default .* copy data|share blocks +served/);
    t.regex(stdout, /shared .* xfs image .* share blocks +served/);
    const grown = await run('pool', 'grow', 'shared', '--size', '400Mi', '--json');
    t.is((JSON.parse(grown.stdout) as { embedded: boolean }).embedded, true, grown.stderr);
    const plain = await run('pool', 'grow', 'default', '--size', '1Ti');
    t.regex(plain.stderr, /is not an embedded pool/);
    // A stopped driver leaves the embedded pool mounted, like volumes.
    await driver.stop();
    await execa('umount', [join(shared, 'reflink')]);
  },
);

onNode('a result that cannot be written is a failure with a one-line message', async (t) => {
  const { exitCode, stderr } = await execa('sh', ['-c', '"$0" help >/dev/full', launcher], {
    reject: false,
  });
  t.is(exitCode, 1);
  t.regex(stderr, /^loopcsi: cannot write to standard output: ENOSPC[^\n]*$/);
});

onNode(
  'a lost pool is forgotten, and a lost pool.json is recovered, with and without a driver',
  async (t) => {
    const directory = await mkdtemp('/var/tmp/loopcsi-command-line-');
    t.teardown(() => leaveNothing(directory));
    const run = (...args: readonly string[]): Promise<CommandResult> =>
      runCommand(join(directory, 'csi.sock'), ...args);
    const lost = join(directory, 'lost');
    const state = ['--state-dir', join(directory, 'state')];
    const init = () => run('pool', 'init', `lost=${lost}`, ...state, '--node-id', 'test-node');
    t.is((await init()).exitCode, 0);
    t.is(
      (await run('pool', 'forget', `lost=${lost}`, ...state, '--yes')).exitCode,
      1,
      'the pool exists',
    );
    await rm(lost, { recursive: true });
    t.regex((await init()).stderr, /loopcsi pool forget lost/);
    const unasked = await run('pool', 'forget', `lost=${lost}`, ...state);
    t.is(unasked.exitCode, 2);
    t.regex(unasked.stderr, /--yes/);
    t.is((await init()).exitCode, 1, 'nothing was forgotten');
    const forgotten = await run('pool', 'forget', `lost=${lost}`, ...state, '--yes', '--json');
    t.like(JSON.parse(forgotten.stdout), { name: 'lost', path: lost, volumeIds: [] });
    t.is((await init()).exitCode, 0);

    const driver = await startDriver(directory, [
      '--http-address=off',
      `--pool=default=${join(directory, 'pool')},create`,
      `--pool=lost=${lost}`,
    ]);
    t.teardown(() => driver.kill());
    t.is((await run('volume', 'create', 'v', '--pool', 'lost', '--size', '64Mi')).exitCode, 0);
    t.is((await run('pool', 'forget', 'lost', '--yes')).exitCode, 1, 'the pool is served');
    await rm(join(lost, 'pool.json'));
    await until('the driver detects the loss', async () =>
      /pool recover lost/.test((await run('pool', 'list')).stdout),
    );
    const recovered = await run('pool', 'recover', 'lost');
    t.regex(recovered.stdout, /has its pool.json again: 1 volume/, recovered.stderr);
    t.is((await run('volume', 'delete', 'v', '--yes')).exitCode, 0);
    await rm(lost, { recursive: true });
    await mkdir(lost);
    await until('the driver detects the loss', async () =>
      /pool forget lost/.test((await run('pool', 'list')).stdout),
    );
    t.is((await run('pool', 'forget', 'lost', '--yes')).exitCode, 0);
    t.is((await run('pool', 'init', 'lost')).exitCode, 0);
    await driver.stop();
  },
);

onNode('volumes are captured as a group; top measures them; lists have formats', async (t) => {
  const { directory, ok, json, run } = await startMachine(t);
  await ok('volume', 'create', 'data', '--size', '1500Mi');
  await ok('volume', 'create', 'wal', '--size', '16Mi');
  t.regex(
    await ok('snapshot', 'group', 'create', 'pg', 'data', 'wal'),
    /2 snapshots of 'data', 'wal'/,
  );
  const group = await json<{ id: string; snapshotIds: readonly string[] }>(
    ...['snapshot', 'group', 'get', 'pg'],
  );
  t.is(group.snapshotIds.length, 2);
  t.is(await ok('snapshot', 'group', 'list', '-q'), 'pg');
  t.regex(await ok('snapshot', 'group', 'get', group.id), /pg\/data\S+: 1500Mi of 'data'/);
  const alone = await run('snapshot', 'delete', '--yes', group.snapshotIds[0] ?? '');
  t.regex(alone.stderr, /member of group snapshot/);
  t.regex(await ok('snapshot', 'group', 'delete', '-y', 'pg'), /with 2 snapshots/);
  t.is(await ok('snapshot', 'list', '-o', 'name'), '');

  const at = join(directory, 'at');
  await ok('volume', 'mount', 'data', at);
  await writeFile(join(at, 'file'), Buffer.alloc(8 * 1024 * 1024));
  interface Top {
    readonly name: string;
    readonly usedBytes: number | null;
    readonly writtenBytesPerSecond: number | null;
  }
  const usage = await json<readonly Top[]>('top');
  const [data, wal] = ['data', 'wal'].map((name) => usage.find((one) => one.name === name));
  t.true((data?.usedBytes ?? 0) >= 8 * 1024 * 1024);
  t.is(typeof data?.writtenBytesPerSecond, 'number');
  t.like(wal, { usedBytes: null, writtenBytesPerSecond: null });
  t.regex(await ok('top', '--sort', 'size'), /^NAME .*\nwal .*\ndata .* 1500Mi /);
  t.regex((await run('volume', 'expand', 'wal', '--size', '+16Mi')).stdout, /now 32Mi/);
  t.is(await ok('volume', 'list', '--sort', 'size', '--reverse', '-q'), 'data\nwal');
  t.regex(await ok('volume', 'get', 'data', '-o', 'yaml'), /^sizeBytes: 1572864000$/m);
  await ok('volume', 'unmount', 'data');
});
