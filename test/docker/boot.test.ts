import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { eventually, run } from '../../scripts/command.ts';
import { dockerPrograms } from './daemon.ts';
import { busybox, type Lab, openLab } from './lab.ts';
import { type Machine, makeMachine } from './machine.ts';

const project = join(import.meta.dirname, '..', '..', '..');

let lab: Lab;
let machine: Machine;

test.before(async () => {
  lab = await openLab();
  machine = await makeMachine(lab);
});
test.after.always('nothing is left behind', async () => {
  const left = await lab.close();
  if (left.length > 0) throw new Error(`left behind: ${left.join('; ')}`);
});

const show = (property: string): Promise<string> =>
  machine.run('systemctl', 'show', '--value', `--property=${property}`, 'loopcsi.service');

const docker = (...args: readonly string[]): Promise<string> =>
  run(dockerPrograms.client, [`--host=unix://${machine.seen('/run/docker.sock')}`, ...args]);

const read = (container: string): Promise<string> => docker('exec', container, 'cat', '/data/file');

async function untilRunning(container: string): Promise<void> {
  await eventually(`container ${container} to run`, async () =>
    (await docker('inspect', '--format', '{{.State.Running}}', container)) === 'true'
      ? true
      : undefined,
  );
}

/** Debian's docker.service, without a network and without features that need capabilities which root may lack. */
async function enableDocker(): Promise<void> {
  const units = machine.seen('/etc/systemd/system');
  for (const unit of ['docker.service', 'containerd.service']) {
    await mkdir(join(units, `${unit}.d`));
    await writeFile(
      join(units, `${unit}.d`, 'lab.conf'),
      '[Service]\nOOMScoreAdjust=0\nLimitNOFILE=65536\n',
    );
  }
  const flags = [
    ...[
      '--bridge=none',
      '--iptables=false',
      '--ip-forward=false',
      '--oom-score-adjust=0',
      '--shutdown-timeout=1',
    ],
    ...['--exec-opt=native.cgroupdriver=cgroupfs', `--cgroup-parent=/${lab.cgroup}`],
  ];
  await writeFile(machine.seen('/etc/default/docker'), `DOCKER_OPTS="${flags.join(' ')}"\n`);
  await machine.run('systemctl', 'daemon-reload');
  const started = await machine.attempt('systemctl', 'enable', '--now', 'docker.service');
  if (started.exitCode === 0) return;
  const journal = ['--no-pager', '--lines=30', '--unit=docker', '--unit=containerd'];
  throw new Error(await machine.run('journalctl', ...journal));
}

test.serial(
  'one command installs a service that serves Docker, also after a restart, a kill and a boot',
  async (t) => {
    await machine.boot();
    await writeFile(machine.seen('/etc/default/loopcsi'), 'LOOPCSI_HTTP_ADDRESS=off\n');
    await machine.run('sh', join(project, 'contrib/install'));
    t.is(await show('ActiveState'), 'active');
    const journal = await machine.run('journalctl', '--unit=loopcsi', '--output=cat');
    t.regex(journal, /^INFO {2}serving .* dockerSocket=\/run\/docker\/plugins\/loopcsi\.sock$/m);
    await enableDocker();
    await docker('load', '--input', lab.imageArchive);
    const volume = ['volume', 'create', '--driver', 'loopcsi', '--opt', 'size=64Mi', 'data'];
    t.is(await docker(...volume), 'data');
    const script = 'echo started >>/data/file; exec sleep infinity';
    const flags = ['--network=none', '--restart=always', '--stop-timeout=1', '--volume=data:/data'];
    await docker('run', '--detach', '--name=keeper', ...flags, busybox, 'sh', '-c', script);
    await untilRunning('keeper');

    await machine.run('systemctl', 'restart', 'loopcsi');
    t.is(await read('keeper'), 'started', 'volumes stay mounted without the driver');
    await machine.run('systemctl', 'kill', '--signal=KILL', '--kill-who=main', 'loopcsi');
    await eventually('systemd to start it again', async () =>
      (await show('NRestarts')) === '1' && (await show('ActiveState')) === 'active'
        ? true
        : undefined,
    );
    t.is(await read('keeper'), 'started');
    t.is(await docker('volume', 'ls', '--quiet'), 'data');

    await machine.halt();
    await machine.boot();
    await untilRunning('keeper');
    t.is(
      await read('keeper'),
      'started\nstarted',
      'the container started at boot, after its volume',
    );

    // As described in docs/docker.md: volumes are kept without the driver, and can be used again with it.
    await machine.run('systemctl', 'disable', '--now', 'loopcsi');
    t.is(await read('keeper'), 'started\nstarted');
    await machine.run('systemctl', 'enable', '--now', 'loopcsi');
    await docker('rm', '--force', 'keeper');
    await docker('volume', 'rm', 'data');
    t.deepEqual(await machine.devices(), []);
    await machine.halt();
  },
);
