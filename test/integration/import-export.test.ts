import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { chmod, mkdir, mkdtemp, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { execa } from 'execa';
import { fsTypes } from '../../src/host/host.ts';
import { readAttributes } from '../../src/host/kernel/attributes.ts';
import { driverLane } from '../../src/host/lane.ts';
import { type CommandResult, launcher, runCommand } from '../helpers/command-line.ts';
import { type DriverProcess, startDriver } from '../helpers/driver.ts';
import { describeTree, makeFeatureTree } from '../helpers/feature-tree.ts';
import { onNode } from '../helpers/on-node.ts';
import { mountsBelow, removeAll } from '../helpers/scratch-pool.ts';
import { scaledMs } from '../helpers/slowness.ts';
import { until } from '../helpers/until.ts';

interface Machine {
  readonly directory: string;
  readonly pool: string;
  readonly driver: () => DriverProcess;
  readonly restart: () => Promise<void>;
  readonly run: (...args: readonly string[]) => Promise<CommandResult>;
  /** Requires exit code 0 and returns the decoded JSON. */
  readonly json: <T>(...args: readonly string[]) => Promise<T>;
  /** Runs a line of bash with `$loopcsi` and the driver's socket. */
  readonly shell: (line: string) => Promise<string>;
}

const flags = ['--http-address=off'];

async function startMachine(t: ExecutionContext, pool?: string): Promise<Machine> {
  const directory = await mkdtemp('/var/tmp/loopcsi-transfer-');
  await chmod(directory, 0o755);
  t.teardown(async () => {
    const left = await removeAll(directory);
    if (left.length > 0) throw new Error(`left behind: ${left.join(', ')}`);
  });
  const options =
    pool === undefined ? flags : [...flags, `--pool=default=${directory}/pool,${pool}`];
  let driver = await startDriver(directory, options);
  t.teardown(() => driver.stop());
  const run: Machine['run'] = (...args) => runCommand(driver.endpoint, ...args);
  return {
    directory,
    pool: join(directory, 'pool'),
    driver: () => driver,
    restart: async () => {
      driver = await startDriver(directory, options);
    },
    run,
    json: async <T>(...args: readonly string[]) => {
      const { exitCode, stdout, stderr } = await run(...args, '--json');
      t.is(exitCode, 0, `${args.join(' ')}: ${stderr}`);
      return JSON.parse(stdout) as T;
    },
    shell: async (line) => {
      const { stdout } = await execa('bash', ['-euo', 'pipefail', '-c', line], {
        env: { LOOPCSI_ENDPOINT: `unix://${driver.endpoint}`, loopcsi: launcher, d: directory },
        timeout: scaledMs(60_000),
        all: true,
      });
      return stdout;
    },
  };
}

async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

interface VolumeJson {
  readonly id: string;
  readonly imagePath: string;
  readonly fsUuid: string;
}
interface ImportJson {
  readonly volume: VolumeJson;
  readonly existed: boolean;
  readonly entries: number;
  readonly sizeBytes: number;
  readonly sha256: string | null;
}
interface ExportJson {
  readonly sha256: string;
  readonly frozenMs: number;
}

for (const fsType of fsTypes) {
  onNode(
    `a directory with every kind of entry is imported to ${fsType}, and preserved`,
    async (t) => {
      const { directory, json } = await startMachine(t);
      const source = join(directory, 'source');
      await makeFeatureTree(source);
      const before = await describeTree(source);
      const flags = ['--fstype', fsType, '--print-pv', 'shop/data'];
      const imported = await json<ImportJson>('volume', 'import', 'v', source, ...flags);
      t.is(imported.entries, 13);
      const { id } = await json<VolumeJson>('volume', 'get', 'shop/data');
      t.is(id, imported.volume.id, 'the volume belongs to the claim of the manifest');
      const target = join(directory, 'mnt');
      await json('volume', 'mount', 'v', target);
      t.deepEqual(await describeTree(target), before);
      t.deepEqual(await describeTree(source), before, 'the source is unchanged');
      for (const name of ['program', 'shared']) {
        const [expected, actual] = await readAttributes(
          driverLane,
          Buffer.from(join(source, name)),
          Buffer.from(join(target, name)),
        );
        t.true(expected.size > 0);
        for (const [key, value] of expected) t.deepEqual(actual.get(key), value, `${name} ${key}`);
      }
      const { blocks } = await stat(join(target, 'sparse'));
      t.true(blocks * 512 < 1024 ** 2, 'holes stay holes');
      t.true((await json<ImportJson>('volume', 'import', 'v', source, '--fstype', fsType)).existed);
      await json('volume', 'unmount', 'v');
    },
  );
}

/** Fills a mounted volume with random data. */
async function fill(target: string, mebibytes: number): Promise<void> {
  await execa('dd', [
    'if=/dev/urandom',
    `of=${join(target, 'random')}`,
    'bs=1M',
    `count=${mebibytes}`,
    'conv=fsync',
    'status=none',
  ]);
}

/** A volume with random data. */
interface Filled extends VolumeJson {
  /** The SHA-256 of the data. */
  readonly content: string;
}

interface FilledOptions {
  readonly fsType?: string;
  readonly mebibytes?: number;
  readonly staysMounted?: boolean;
}

async function makeFilled(
  { directory, json }: Machine,
  name: string,
  { fsType = 'ext4', mebibytes = 20, staysMounted = false }: FilledOptions = {},
): Promise<Filled> {
  // The smallest filesystem of mkfs.xfs has 300 MiB.
  const size = `${mebibytes + (fsType === 'xfs' ? 300 : 64)}Mi`;
  const target = join(directory, `mnt-${name}`);
  const flags = ['--size', size, '--fstype', fsType];
  const volume = await json<VolumeJson>('volume', 'create', name, ...flags);
  await json('volume', 'mount', name, target);
  await fill(target, mebibytes);
  const content = await sha256(join(target, 'random'));
  if (!staysMounted) await json('volume', 'unmount', name);
  return { ...volume, content };
}

for (const fsType of fsTypes) {
  onNode(`${fsType} goes out and in again: file, copy and plain mount agree`, async (t) => {
    const machine = await startMachine(t);
    const { directory, json } = machine;
    const { imagePath, fsUuid, content } = await makeFilled(machine, 'v', { fsType });
    const file = join(directory, 'v.img');
    const exported = await json<ExportJson>('volume', 'export', 'v', file);
    t.is(exported.sha256, await sha256(imagePath));
    t.is(exported.sha256, await sha256(file));
    t.is((await stat(file)).size, (await stat(imagePath)).size);
    t.true((await stat(file)).blocks * 512 < (await stat(imagePath)).size / 2, 'sparse');
    const copy = await json<ImportJson>('volume', 'import', 'copy', file);
    t.not(copy.volume.fsUuid, fsUuid, 'its UUID is its own');
    t.is(await mountedHash(machine, 'copy'), content);
    // Rescue: no driver is needed to read an image.
    await machine.driver().stop();
    const rescue = join(directory, 'rescue');
    await mkdir(rescue);
    await execa('mount', ['-o', 'loop,ro', imagePath, rescue]);
    const rescued = await sha256(join(rescue, 'random'));
    await execa('umount', [rescue]);
    t.is(rescued, content);
  });
}

onNode(
  'a volume goes out and in again as a stream, as a block volume and with its UUID',
  async (t) => {
    const machine = await startMachine(t);
    const { directory, json, shell } = machine;
    const { fsUuid, content } = await makeFilled(machine, 'v');
    await shell('"$loopcsi" volume export v - >"$d/v.zst" 2>"$d/said"');
    await shell('zstd -d --sparse --quiet "$d/v.zst" -o "$d/v.img"');
    const file = join(directory, 'v.img');
    const hash = await sha256(file);
    t.true((await readFile(join(directory, 'said'), 'utf8')).includes(hash));
    await shell('"$loopcsi" volume import streamed - --json <"$d/v.zst" >"$d/streamed.json"');
    const streamed = JSON.parse(
      await readFile(join(directory, 'streamed.json'), 'utf8'),
    ) as ImportJson;
    t.is(streamed.sha256, hash);
    t.not(streamed.volume.fsUuid, fsUuid, 'its UUID is its own');
    await json('volume', 'import', 'raw', file, '--block');
    const again = await json<ExportJson>('volume', 'export', 'raw', join(directory, 'again.img'));
    t.is(again.sha256, hash);
    const kept = await json<ImportJson>('volume', 'import', 'kept', file, '--keep-uuid');
    t.is(kept.volume.fsUuid, fsUuid);
    for (const name of ['streamed', 'kept']) t.is(await mountedHash(machine, name), content);
  },
);

async function mountedHash({ directory, json }: Machine, name: string): Promise<string> {
  const target = join(directory, `mnt-${name}`);
  await json('volume', 'mount', name, target);
  const hash = await sha256(join(target, 'random'));
  await json('volume', 'unmount', name);
  return hash;
}

onNode('a mounted volume is captured for its export, or refused with advice', async (t) => {
  const sharing = await startMachine(t, 'create,reflink=2Gi');
  const { content } = await makeFilled(sharing, 'v', { staysMounted: true });
  const target = join(sharing.directory, 'mnt-v');
  const file = join(sharing.directory, 'v.img');
  const exported = await sharing.json<ExportJson>('volume', 'export', 'v', file);
  t.is(exported.sha256, await sha256(file));
  await writeFile(join(target, 'later'), 'not in the export');
  await sharing.json('volume', 'import', 'copy', file);
  const copy = join(sharing.directory, 'mnt-copy');
  await sharing.json('volume', 'mount', 'copy', copy);
  t.is(await sha256(join(copy, 'random')), content);
  t.false((await readdir(copy)).includes('later'));
  t.deepEqual(await readdir(join(sharing.pool, 'reflink', 'tmp')), [], 'the capture is removed');
  for (const name of ['copy', 'v']) await sharing.json('volume', 'unmount', name);

  const copying = await startMachine(t);
  await makeFilled(copying, 'v', { staysMounted: true });
  const refused = await copying.run('volume', 'export', 'v', join(copying.directory, 'v.img'));
  t.is(refused.exitCode, 1);
  t.regex(refused.stderr, /in use.*snapshot create v NAME --freeze; then export that snapshot/s);
  t.false((await readdir(copying.directory)).some((name) => name.startsWith('v.img')));
  await copying.json('snapshot', 'create', 'v', 's', '--freeze');
  await copying.json('volume', 'export', 's', join(copying.directory, 's.img'), '--snapshot');
  await copying.json('volume', 'unmount', 'v');
});

/** What an interrupted import may leave after the next start: nothing. */
async function leavesNothing(
  t: ExecutionContext,
  { directory, pool, json }: Machine,
  name: string,
) {
  t.deepEqual(await readdir(join(pool, 'tmp')), []);
  t.deepEqual(await readdir(join(pool, 'volumes')), []);
  t.deepEqual(await mountsBelow(directory), []);
  const volumes = await json<readonly { readonly name: string }[]>('volume', 'list');
  t.false(volumes.some((volume) => volume.name === name));
}

async function copiers(directory: string): Promise<readonly string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const lines = await Promise.all(
    pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')),
  );
  return lines.filter((line) => line.startsWith('cp\0') && line.includes(directory));
}

onNode('kill -9 of the driver in an import ends cp and leaves no half volume', async (t) => {
  const machine = await startMachine(t);
  const { directory, pool, json, run } = machine;
  const source = join(directory, 'source');
  for (let group = 0; group < 20; group += 1) {
    const part = join(source, String(group));
    await mkdir(part, { recursive: true });
    const names = Array.from({ length: 100 }, (_, index) => join(part, String(index)));
    await Promise.all(names.map((name) => writeFile(name, name)));
  }
  const importing = run('volume', 'import', 'v', source);
  // The entry exists from before cp starts until the comparison has ended, for about a second, so the poll cannot miss it.
  await until(
    'the import works in tmp/',
    async () => (await readdir(join(pool, 'tmp'))).length > 0,
  );
  await machine.driver().kill();
  const { exitCode, stderr } = await importing;
  t.is(exitCode, 1);
  t.regex(stderr, /connection to the driver was lost/);
  await until('cp has ended', async () => (await copiers(directory)).length === 0);
  await machine.restart();
  await leavesNothing(t, machine, 'v');
  const imported = await json<ImportJson>('volume', 'import', 'v', source);
  t.false(imported.existed);
  t.is(imported.entries, 20 * 101 + 1);
});

onNode(
  'kill -9 of the driver: an image copy and an export go on, a stream leaves nothing',
  async (t) => {
    const machine = await startMachine(t);
    const { directory, pool, json, run, shell } = machine;
    await makeFilled(machine, 'v', { mebibytes: 200 });
    const file = join(directory, 'v.img');
    const exporting = run('volume', 'export', 'v', file);
    const progress = async () =>
      Number(
        /"doneBytes":"(\d+)"/.exec(
          await readFile(`${file}.part.json`, 'utf8').catch(() => ''),
        )?.[1] ?? 0,
      );
    await until('progress is recorded', async () => (await progress()) > 0);
    await machine.driver().kill();
    t.is((await exporting).exitCode, 1);
    t.false((await readdir(directory)).includes('v.img'), 'no half file has the name');
    await machine.restart();
    const exported = await json<ExportJson>('volume', 'export', 'v', file, '--resume');
    t.is(exported.sha256, await sha256(file));
    t.deepEqual(
      (await readdir(directory)).filter((name) => name.startsWith('v.img')),
      ['v.img'],
    );

    const importing = run('volume', 'import', 'copy', file, '--block');
    const records = async () => {
      const entries = await readdir(join(pool, 'tmp')).catch(() => []);
      const files = await Promise.all(
        entries.map((entry) => readdir(join(pool, 'tmp', entry)).catch(() => [])),
      );
      return files.flat().includes('restore.json');
    };
    await until('the copy is recorded', records);
    await machine.driver().kill();
    t.is((await importing).exitCode, 1);
    await machine.restart();
    t.is((await readdir(join(pool, 'tmp'))).length, 1, 'the copy is kept');
    await json('volume', 'import', 'copy', file, '--block');
    t.regex(await machine.driver().log(), /an interrupted copy was kept/);
    const { imagePath } = await json<VolumeJson>('volume', 'get', 'copy');
    t.is(await sha256(imagePath), exported.sha256);
    await json('volume', 'delete', 'copy', '--yes');
    await json('volume', 'delete', 'v', '--yes');

    const streaming = shell('"$loopcsi" volume import streamed - <"$d/v.img"').then(
      () => 'succeeded',
      (error: unknown) => String(error),
    );
    await until('data has arrived', async () => {
      const [entry] = await readdir(join(pool, 'tmp'));
      const image = entry === undefined ? undefined : join(pool, 'tmp', entry, 'disk.img');
      return image !== undefined && ((await stat(image).catch(() => undefined))?.blocks ?? 0) > 0;
    });
    await machine.driver().kill();
    t.regex(await streaming, /connection to the driver was lost/);
    await machine.restart();
    await leavesNothing(t, machine, 'streamed');
  },
);

onNode('a data directory of rawfile-localpv is imported', async (t) => {
  const { directory, json, run } = await startMachine(t);
  const data = join(directory, 'rawfile');
  const add = async (id: string, meta: object, make: (image: string) => Promise<unknown>) => {
    await mkdir(join(data, id), { recursive: true });
    const image = join(data, id, 'disk.img');
    await writeFile(join(data, id, 'disk.meta'), JSON.stringify({ schema_version: 7, ...meta }));
    await execa('truncate', ['--size', '320M', image]);
    await make(image);
  };
  await add('pvc-1', { size: 1, ready: true }, (image) => execa('mkfs.ext4', ['-q', image]));
  await add('pvc-2', {}, (image) => execa('mkfs.xfs', ['-q', '-ssize=512', image]));
  await add('pvc-3', { deleted_at: 1.5 }, (image) => execa('mkfs.ext4', ['-q', image]));
  await add('pvc-4', {}, async () => undefined);
  interface Row {
    readonly id: string;
    readonly format: string;
    readonly state: string;
  }
  const states = (rows: string) =>
    (JSON.parse(rows) as readonly Row[]).map(({ id, format, state }) => [
      id,
      format,
      state.split(':')[0],
    ]);
  const dry = await run('volume', 'import-rawfile', data, '--dry-run', '--json');
  const others = [
    ['pvc-3', '', 'skipped'],
    ['pvc-4', '', 'failed'],
  ];
  t.is(dry.exitCode, 1);
  t.deepEqual(states(dry.stdout), [
    ['pvc-1', 'ext4', 'can be imported'],
    ['pvc-2', 'xfs', 'can be imported'],
    ...others,
  ]);
  t.deepEqual(await json('volume', 'list'), []);
  const imported = await run('volume', 'import-rawfile', data, '--json');
  t.deepEqual(states(imported.stdout), [
    ['pvc-1', 'ext4', 'imported'],
    ['pvc-2', 'xfs', 'imported'],
    ...others,
  ]);
  t.is((await json<{ sectorSize: number }>('volume', 'get', 'pvc-2')).sectorSize, 512);
  const target = join(directory, 'mnt');
  await json('volume', 'mount', 'pvc-2', target);
  const attached = join(data, 'pvc-1', 'disk.img');
  const { stdout: device } = await execa('losetup', ['--find', '--show', attached]);
  const refused = await run('volume', 'import', 'busy', attached);
  await execa('losetup', ['--detach', device]);
  t.is(refused.exitCode, 1);
  t.true(refused.stderr.includes(`attached to ${device}`), refused.stderr);
  await json('volume', 'unmount', 'pvc-2');
});
