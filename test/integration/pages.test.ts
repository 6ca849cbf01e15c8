import { mkdir, mkdtemp, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { eventually, FinalError, run } from '../../scripts/command.ts';
import { startService } from '../docker/processes.ts';
import { csiSanityProgram } from '../helpers/csi-sanity.ts';
import { startDriver } from '../helpers/driver.ts';
import { onNode } from '../helpers/on-node.ts';
import { blocksOf, makePrograms, type PageShell, runBlock } from '../helpers/run-page.ts';
import { removeAll } from '../helpers/scratch-pool.ts';

const launcher = join(import.meta.dirname, '..', '..', '..', 'bin', 'loopcsi');
/** In the machine of a page, these are directories of the test. */
const ownDirectories = ['/var/lib', '/run', '/mnt'];

/**
 * A machine as the pages describe it: the driver runs with its default pool, and `loopcsi` is on the PATH. It is a mount
 * namespace on this machine. At the end everything that the page made is removed through the command line.
 */
async function makeMachine(t: ExecutionContext): Promise<PageShell> {
  const directory = await mkdtemp('/var/tmp/loopcsi-pages-');
  t.teardown(async () => {
    const left = await removeAll(directory);
    if (left.length > 0) throw new Error(`left behind: ${left.join(', ')}`);
  });
  for (const path of ownDirectories) await mkdir(join(directory, path), { recursive: true });
  const enter = await makeNamespace(t, directory);
  const bin = await makePrograms(directory, {
    loopcsi: `exec ${launcher} "$@"`,
    sudo: 'exec "$@"',
    // As `exec -i` and ssh do, they pass standard input on in a pipe.
    kubectl: 'while [ "$1" != -- ]; do shift; done; shift; cat | "$@"',
    ssh: 'shift; cd /mnt; cat | sh -c "$*"',
  });
  const shell = {
    enter,
    environment: {
      PATH: [bin, dirname(csiSanityProgram()), process.env['PATH'] ?? ''].join(':'),
    },
  };
  const flags = [
    '--state-dir=/var/lib/loopcsi',
    '--pool=default=/var/lib/loopcsi/pools/default,create',
    '--http-address=off',
  ];
  // In the namespace, this is the default socket /run/loopcsi/csi.sock.
  const socketDirectory = join(directory, 'run', 'loopcsi');
  await mkdir(socketDirectory);
  const driver = await startDriver(socketDirectory, flags, { enter });
  t.teardown(async () => {
    await removeVolumes(shell);
    await driver.stop();
  });
  return shell;
}

async function makeNamespace(t: ExecutionContext, directory: string): Promise<readonly string[]> {
  const binds = ownDirectories.map((path) => `mount --bind ${join(directory, path)} ${path}`);
  const script = [...binds, 'exec sleep infinity'].join(' && ');
  const unshare = ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', script];
  const log = join(directory, 'namespace.log');
  const holder = await startService(unshare, log);
  t.teardown(() => holder.end());
  await eventually('the mounts of the namespace', async () => {
    if (holder.hasEnded()) throw new FinalError(await readFile(log, 'utf8'));
    const table = await readFile(`/proc/${holder.pid}/mountinfo`, 'utf8');
    return ownDirectories.every((path) => table.includes(`${path} ${path} `)) ? true : undefined;
  });
  return ['nsenter', `--target=${holder.pid}`, '--mount', `--wd=${process.cwd()}`];
}

/** Unmounts and deletes everything, as the reader of a page could. */
async function removeVolumes({ enter = [], environment = {} }: PageShell): Promise<void> {
  const [file, ...args] = [...enter, launcher];
  const loopcsi = (...words: readonly string[]): Promise<string> =>
    run(file, [...args, ...words], { env: environment });
  for (const kind of ['volume', 'snapshot'] as const) {
    const entries = JSON.parse(await loopcsi(kind, 'list', '--json')) as { id: string }[];
    for (const { id } of entries) {
      if (kind === 'volume') await loopcsi('volume', 'unmount', id).catch(() => undefined);
      await loopcsi(kind, 'delete', id, '--yes');
    }
  }
}

const pages = ['README.md', 'docs/tasks.md', 'docs/csi-sanity.md', 'docs/import-export.md'];
for (const page of pages) {
  onNode(`${page}: the commands work as pasted, and print what the page shows`, async (t) => {
    const machine = await makeMachine(t);
    const blocks = await blocksOf(page, 'machine');
    t.true(blocks.length > 0);
    for (const block of blocks) await runBlock(t, block, machine);
  });
}
