import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { stringify } from 'yaml';
import { eventually, run } from '../../scripts/command.ts';
import { type Daemon, startDaemon } from '../docker/daemon.ts';
import { busybox, type Lab, makeNode, type NodeSpace, openLab } from '../docker/lab.ts';
import { projectRoot } from '../e2e/cluster/cache.ts';
import { driverImage, images } from '../e2e/cluster/images.ts';

/** The driver as a container of the dockerd that it serves, as in contrib/docker/compose.yaml. */
let lab: Lab;
let node: NodeSpace;
let daemon: Daemon;
const stateDir = '/var/lib/loopcsi';

test.before(async () => {
  const image = await driverImage();
  lab = await openLab();
  node = await makeNode(lab, 'a');
  const data = join(node.directory, 'data');
  await mkdir(data);
  // The machine's own directory is not used. The mount is shared, as on a machine with systemd.
  const script = 'mkdir -p "$1" && mount --bind "$0" "$1" && mount --make-shared "$1"';
  const [file = '', ...enter] = node.enter;
  await run(file, [...enter, 'sh', '-c', script, data, stateDir]);
  daemon = await startDaemon(lab, node);
  await daemon.docker('load', '--input', join(image, 'driver.tar'));
});
test.after.always('nothing is left over', async () => {
  const left = await lab.close();
  if (left.length > 0) throw new Error(`left behind: ${left.join('; ')}`);
});

test.serial('the driver in a container serves its own dockerd, also after a restart', async (t) => {
  const override = join(node.directory, 'override.yaml');
  // Only the part of `privileged` that the driver needs: docker cannot give a container more rights than root has here.
  const less = {
    privileged: false,
    cap_add: ['SYS_ADMIN'],
    security_opt: ['seccomp=unconfined', 'apparmor=unconfined'],
    device_cgroup_rules: ['b *:* rwm', 'c *:* rwm'],
  };
  await writeFile(override, stringify({ services: { driver: less } }));
  const files = ['--file', join(projectRoot, 'contrib/docker/compose.yaml'), '--file', override];
  const compose = (...args: readonly string[]): Promise<string> =>
    run('docker-compose', [...files, ...args], {
      env: { DOCKER_HOST: `unix://${daemon.socket}`, DOCKER_CONFIG: node.directory },
    });
  await daemon.docker('tag', images.driver, 'loopcsi:local');
  await compose('up', '--detach', '--no-build');
  const create = ['volume', 'create', '--driver', 'loopcsi', '--opt', 'size=64Mi', 'data'];
  await eventually('the plugin', async () =>
    (await daemon.tryDocker(...create)).exitCode === 0 ? true : undefined,
  );
  const script = 'while :; do date >>/data/lines; sync /data/lines; sleep 0.1; done';
  const flags = ['--detach', '--name', 'writer', '--volume', 'data:/data'];
  await daemon.docker('run', ...flags, busybox, 'sh', '-c', script);
  const lines = async (): Promise<number> =>
    Number(await daemon.docker('exec', 'writer', 'sh', '-c', 'wc -l </data/lines'));
  t.regex(await daemon.docker('exec', 'writer', 'df', '/data'), /\/dev\/loop\d+/);
  const before = await lines();
  await daemon.docker('kill', '--signal', 'KILL', 'loopcsi');
  await daemon.docker('start', 'loopcsi');
  await eventually('more lines', async () => ((await lines()) > before + 5 ? true : undefined));
  await eventually('the plugin again', async () =>
    (await daemon.tryDocker('volume', 'inspect', 'data')).exitCode === 0 ? true : undefined,
  );
  // As at an upgrade.
  await compose('up', '--detach', '--no-build', '--force-recreate');
  const between = await lines();
  await eventually('lines after it', async () => ((await lines()) > between ? true : undefined));
  await eventually('the new plugin', async () =>
    (await daemon.tryDocker('volume', 'inspect', 'data')).exitCode === 0 ? true : undefined,
  );
  await daemon.docker('rm', '--force', 'writer');
  const again = ['run', '--rm', '--volume', 'data:/data', busybox];
  t.is(await daemon.docker(...again, 'sh', '-c', 'test -s /data/lines && echo kept'), 'kept');
  await daemon.docker('volume', 'rm', 'data');
  await compose('down');
});
