import { mkdir, mkdtemp, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { execa } from 'execa';
import { eventually, FinalError, run } from '../../scripts/command.ts';
import { type Service, startService } from '../docker/processes.ts';
import { launcher } from '../helpers/command-line.ts';
import { csiSanityProgram } from '../helpers/csi-sanity.ts';
import { onNode } from '../helpers/on-node.ts';
import { blocksOf, makePrograms, type PageShell, runBlock } from '../helpers/run-page.ts';
import { removeAll } from '../helpers/scratch-pool.ts';

/** In a machine of the page, these are directories of the test. */
const ownDirectories = ['/var/lib', '/run', '/mnt'];
const machines = [1, 2, 3].map((index) => ({
  name: `machine-${index}`,
  address: `10.0.0.1${index}`,
}));

/** Starts, restarts and stops the two services of the page, as systemd would. */
const systemctl = `
set -e
action=$1
for unit; do :; done
pid=/run/$unit.pid
if [ "$action" != start ] && [ -f "$pid" ]; then
  kill "$(cat "$pid")"
  while kill -0 "$(cat "$pid")" 2>/dev/null; do sleep 0.1; done
  rm "$pid"
fi
[ "$action" != stop ] || exit 0
command='env LOOPCSI_CONFIG=/etc/loopcsi.yaml loopcsi serve'
file=/etc/systemd/system/$unit.service
[ ! -f "$file" ] || command=$(sed -n 's|^ExecStart=/usr/bin/||p' "$file")
mkdir -p "/run/$unit" "/var/lib/$unit"
setsid $command </dev/null >>"/run/$unit.log" 2>&1 &
echo $! > "$pid"
while ! [ -S "/run/$unit/csi.sock" ]; do kill -0 "$(cat "$pid")"; sleep 0.1; done
`;

interface Machine {
  readonly holder: Service;
  readonly directory: string;
  readonly enter: readonly string[];
}

/** A machine with a network, a host name, an /etc and directories of its own. Its network has no connection yet. */
async function makeMachine(t: ExecutionContext, directory: string, name: string): Promise<Machine> {
  for (const path of [...ownDirectories, 'etc', 'work'])
    await mkdir(join(directory, path), { recursive: true });
  const script = [
    `hostname ${name}`,
    ...ownDirectories.map((path) => `mount --bind ${join(directory, path)} ${path}`),
    `mount -t overlay -o lowerdir=/etc,upperdir=${join(directory, 'etc')},workdir=${join(directory, 'work')} overlay /etc`,
    'rm -rf /etc/systemd/system/loopcsi* /etc/loopcsi*',
    'mkdir -p /etc/systemd/system',
    'ip link set lo up',
    'touch /run/is-up',
    'exec sleep infinity',
  ].join(' && ');
  const log = join(directory, 'namespace.log');
  const unshare = ['unshare', '--net', '--uts', '--mount', '--propagation', 'private'];
  const holder = await startService([...unshare, 'sh', '-c', script], log);
  t.teardown(() => holder.end());
  await eventually(`${name} is up`, async () => {
    if (holder.hasEnded()) throw new FinalError(await readFile(log, 'utf8'));
    return (await readFile(join(directory, 'run', 'is-up')).catch(() => undefined)) !== undefined
      ? true
      : undefined;
  });
  const enter = ['nsenter', `--target=${holder.pid}`, '--net', '--uts', '--mount'];
  return { holder, directory, enter: [...enter, `--wd=${process.cwd()}`] };
}

/** Connects the machines, through a bridge in the network of the first. */
async function connect(all: readonly Machine[]): Promise<void> {
  const [first] = all;
  if (first === undefined) throw new Error('no machine');
  const inFirst = async (...command: readonly string[]): Promise<void> => {
    await execa('nsenter', [`--target=${first.holder.pid}`, '--net', ...command]);
  };
  await inFirst('ip', 'link', 'add', 'br0', 'type', 'bridge');
  await inFirst('ip', 'address', 'add', '10.0.0.11/24', 'dev', 'br0');
  await inFirst('ip', 'link', 'set', 'br0', 'up');
  for (const [index, { holder }] of all.entries()) {
    if (index === 0) continue;
    const peer = ['peer', 'name', 'eth0', 'netns', String(holder.pid)];
    await inFirst('ip', 'link', 'add', `m${index}`, 'type', 'veth', ...peer);
    await inFirst('ip', 'link', 'set', `m${index}`, 'master', 'br0', 'up');
    const inMachine = async (...command: readonly string[]): Promise<void> => {
      await execa('nsenter', [`--target=${holder.pid}`, '--net', ...command]);
    };
    const address = machines[index]?.address ?? '';
    await inMachine('ip', 'address', 'add', `${address}/24`, 'dev', 'eth0');
    await inMachine('ip', 'link', 'set', 'eth0', 'up');
  }
}

/** Three machines as the page describes them, and the shell of the first. */
async function makeMachines(t: ExecutionContext): Promise<PageShell> {
  const directory = await mkdtemp('/var/tmp/loopcsi-machines-');
  t.teardown(async () => {
    const left = await removeAll(directory);
    if (left.length > 0) throw new Error(`left behind: ${left.join(', ')}`);
  });
  const all: Machine[] = [];
  for (const { name } of machines) all.push(await makeMachine(t, join(directory, name), name));
  await connect(all);
  const cases = machines.map(
    ({ address }, index) =>
      `root@${address}) shift; exec ${all[index]?.enter.join(' ') ?? ''} sh -c "$*";;`,
  );
  const bin = await makePrograms(directory, {
    loopcsi: `exec ${launcher} "$@"`,
    // Like ssh, it passes no environment on.
    ssh: `unset LOOPCSI_ENDPOINT; case $1 in ${cases.join(' ')} esac; exit 255`,
    systemctl,
  });
  const path = [bin, dirname(csiSanityProgram()), process.env['PATH'] ?? ''].join(':');
  for (const machine of all) t.teardown(() => endMachine(machine, path));
  return { enter: all[0]?.enter ?? [], environment: { PATH: path } };
}

/** Deletes what the page has made, through the driver of the machine, and ends its services. */
async function endMachine({ enter, directory }: Machine, PATH: string): Promise<void> {
  const [file = '', ...args] = enter;
  const loopcsi = (...words: readonly string[]): Promise<string> =>
    run(file, [...args, launcher, ...words], { env: { PATH } });
  for (const kind of ['volume', 'snapshot'] as const) {
    const entries = JSON.parse(await loopcsi(kind, 'list', '--json')) as { id: string }[];
    for (const { id } of entries) {
      if (kind === 'volume') await loopcsi('volume', 'unmount', id);
      await loopcsi(kind, 'delete', id, '--yes');
    }
  }
  for (const unit of ['loopcsi-controller', 'loopcsi']) {
    const pid = await readFile(join(directory, 'run', `${unit}.pid`), 'utf8').catch(() => '');
    if (pid !== '') await run(file, [...args, 'systemctl', 'stop', unit], { env: { PATH } });
  }
}

const page = 'docs/several-machines.md';
onNode(`${page}: the commands work as pasted, and print what the page shows`, async (t) => {
  t.timeout(20 * 60_000);
  const machine = await makeMachines(t);
  const blocks = await blocksOf('docs/several-machines.md', 'machines');
  t.true(blocks.length > 0);
  for (const block of blocks) await runBlock(t, block, machine);
});
