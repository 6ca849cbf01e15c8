import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { parse, stringify } from 'yaml';
import { eventually, run } from '../../scripts/command.ts';
import { type Daemon, startDaemon } from './daemon.ts';
import { busybox, type Lab, makeNode, type NodeSpace, openLab } from './lab.ts';
import { driverName, startPlugin } from './plugin.ts';

/** The compose file of docs/docker.md, with an image that needs no registry. */
let lab: Lab;
let node: NodeSpace;
let daemon: Daemon;

const root = join(import.meta.dirname, '..', '..', '..');
const page = join(root, 'docs/docker.md');
const mountPoint = '/var/lib/postgresql/data';
// A database that records each of its starts. It replaces the shell, so SIGTERM stops it.
const database = `echo started >>${mountPoint}/log && exec sleep 1000`;

test.before(async () => {
  lab = await openLab();
  node = await makeNode(lab, 'a');
  await startPlugin(lab, node, { nodeId: 'node-a' });
  daemon = await startDaemon(lab, node);
});
test.after.always('nothing is left behind', async () => {
  const left = await lab.close();
  if (left.length > 0) throw new Error(`left behind: ${left.join('; ')}`);
});

async function example(): Promise<string> {
  const block = /```yaml\n(services:\n {2}db:[^]*?)```/.exec(await readFile(page, 'utf8'));
  const file = parse(block?.[1] ?? '') as { services: { db: Record<string, unknown> } };
  Object.assign(file.services.db, {
    image: busybox,
    command: ['sh', '-c', database],
    stop_grace_period: '1s',
  });
  // Without the key, older versions of compose assume their first format.
  return stringify({ version: '3.8', ...file });
}

test.serial('compose accepts the compose file of the driver', async (t) => {
  const file = join(root, 'contrib/docker/compose.yaml');
  const understood = parse(await run('docker-compose', ['--file', file, 'config'])) as {
    services: { driver: { privileged: boolean; environment: Record<string, string> } };
  };
  const { driver } = understood.services;
  t.true(driver.privileged);
  t.is(driver.environment['LOOPCSI_DOCKER_SOCKET'], '/run/docker/plugins/loopcsi.sock');
});

test.serial('data survives down and up; down --volumes deletes it', async (t) => {
  const file = join(node.directory, 'compose.yaml');
  await writeFile(file, await example());
  const compose = (...args: readonly string[]): Promise<string> =>
    run('docker-compose', ['--project-name', 'app', '--file', file, ...args], {
      env: { DOCKER_HOST: `unix://${daemon.socket}`, DOCKER_CONFIG: node.directory },
    });
  const hasStarted = (times: number): Promise<true> =>
    eventually(`start ${times} of the database`, async () => {
      const log = await compose('exec', '-T', 'db', 'cat', `${mountPoint}/log`);
      return log.split('\n').length === times ? true : undefined;
    });
  const volumes = (): Promise<string> =>
    daemon.docker('volume', 'ls', '--quiet', '--filter', `driver=${driverName}`);

  await compose('up', '--detach');
  t.true(await hasStarted(1));
  t.is(await volumes(), 'app_pgdata');
  const format = '{{.Status.size}} {{.Status.filesystem}}';
  t.is(await daemon.docker('volume', 'inspect', '--format', format, 'app_pgdata'), '20 GiB xfs');
  await compose('down');
  t.is(await volumes(), 'app_pgdata');
  await compose('up', '--detach');
  t.true(await hasStarted(2));
  await compose('up', '--detach', '--force-recreate');
  t.true(await hasStarted(3));
  await compose('down', '--volumes');
  t.is(await volumes(), '');
});
