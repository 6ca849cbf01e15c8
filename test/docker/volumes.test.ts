import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { eventually, run } from '../../scripts/command.ts';
import { blocksOf, makePrograms, runBlock } from '../helpers/run-page.ts';
import { type Daemon, dockerPrograms, startDaemon } from './daemon.ts';
import { busybox, content, type Lab, makeNode, type NodeSpace, openLab } from './lab.ts';
import { driverName, type Plugin, startPlugin } from './plugin.ts';

const root = join(import.meta.dirname, '..', '..', '..');

/** One machine with the driver, a dockerd with live-restore, and a user-defined bridge network. */
let lab: Lab;
let node: NodeSpace;
let plugin: Plugin;
let daemon: Daemon;

test.before(async () => {
  lab = await openLab();
  node = await makeNode(lab, 'a');
  plugin = await startPlugin(lab, node, { nodeId: 'node-a' });
  daemon = await startDaemon(lab, node, { liveRestore: true });
});
test.after.always('nothing is left behind', async () => {
  const left = await lab.close();
  if (left.length > 0) throw new Error(`left behind: ${left.join('; ')}`);
});

const volume = (name: string, ...options: readonly string[]): Promise<string> =>
  daemon.docker(
    'volume',
    'create',
    '--driver',
    driverName,
    ...options.flatMap((one) => ['--opt', one]),
    name,
  );

/** `docker run` of the lab's image with a shell script. */
const shell = (flags: readonly string[], script: string): Promise<string> =>
  daemon.docker('run', ...flags, busybox, 'sh', '-c', script);

const statusOf = async (name: string): Promise<Record<string, unknown>> =>
  JSON.parse(
    await daemon.docker('volume', 'inspect', '--format', '{{json .Status}}', name),
  ) as Record<string, unknown>;

const remove = (container: string): Promise<string> =>
  daemon.docker('rm', '--force', '--volumes', container);

/** A container that appends a line every 50 ms, and syncs each, until it is stopped. */
async function startWriter(name: string, volumeName: string, ...flags: string[]): Promise<void> {
  // Syncs only the file: sync(2) waits for every filesystem of the machine, and cannot be killed meanwhile.
  const script =
    'i=0; while :; do i=$((i+1)); echo $i >>/data/lines || exit 9; sync /data/lines; sleep 0.05; done';
  await shell(['--detach', '--name', name, '--volume', `${volumeName}:/data`, ...flags], script);
}

/** Waits until a container sees more than `than` lines, and returns their number. */
async function linesAfter(container: string, than: number): Promise<number> {
  return eventually(`more than ${than} lines of ${container}`, async () => {
    const lines = Number(await daemon.docker('exec', container, 'sh', '-c', 'wc -l </data/lines'));
    return lines > than ? lines : undefined;
  });
}

test.serial('volume get names the container that uses a volume, and its mount ID', async (t) => {
  await volume('named', 'size=32Mi');
  const script = 'exec 3>/data/file; exec sleep 1000';
  const id = await shell(['--detach', '--name', 'user', '--volume', 'named:/data'], script);
  const { stdout } = await plugin.loopcsi('volume', 'get', 'named');
  t.regex(
    stdout,
    new RegExp(`^Used by: +sleep \\(pid \\d+, container ${id.slice(0, 12)}\\)$`, 'm'),
  );
  t.regex(stdout, /^Docker mount IDs: +[0-9a-f]{64}$/m);
  t.regex((await plugin.loopcsi('volume', 'list')).stdout, /^named +- +32Mi /m);
  await remove('user');
  await daemon.docker('volume', 'rm', 'named');
});

test.serial(
  'two containers on a bridge network exchange data by name, and a third reads it from a clone',
  async (t) => {
    await daemon.docker('network', 'create', 'net');
    await volume('inbox', 'size=64Mi');
    const serve = (word: string): string =>
      `mkdir /www && echo ${word} >/www/word && exec httpd -f -h /www`;
    const fetch = (from: string): string =>
      `until wget -q -O /tmp/word http://${from}/word; do sleep 0.1; done; cat /tmp/word`;
    await shell(['--detach', '--name', 'alpha', '--network', 'net'], serve('from-alpha'));
    await shell(
      ['--detach', '--name', 'beta', '--network', 'net', '--volume', 'inbox:/data'],
      serve('from-beta'),
    );
    t.is(await daemon.docker('exec', 'alpha', 'sh', '-c', fetch('beta')), 'from-beta');
    await daemon.docker('exec', 'beta', 'sh', '-c', `${fetch('alpha')} >/data/got`);
    await remove('beta');
    await volume('copy', 'from=inbox');
    t.is(
      await shell(['--rm', '--network', 'net', '--volume', 'copy:/data'], 'cat /data/got'),
      'from-alpha',
    );
    await remove('alpha');
    await daemon.docker('network', 'rm', 'net');
    await daemon.docker('volume', 'rm', 'inbox', 'copy');
  },
);

test.serial(
  'a new volume is empty, and gets the files that the image has at that path, once',
  async (t) => {
    await volume('fresh', 'size=32Mi');
    const mounted = ['--rm', '--volume', 'fresh:/content'];
    t.is(
      await shell(mounted, 'cat /content/hello; ls /content | wc -l'),
      `${content['content/hello']}1`,
    );
    await shell(mounted, 'echo changed >/content/hello');
    t.is(await shell(mounted, 'cat /content/hello'), 'changed');
    const readOnly = await daemon.tryDocker(
      'run',
      '--rm',
      '--volume',
      'fresh:/content:ro',
      busybox,
      'touch',
      '/content/x',
    );
    t.regex(readOnly.stderr, /Read-only file system/);
    await daemon.docker('volume', 'rm', 'fresh');
  },
);

test.serial(
  'data survives stop, start, restart and recreation, as compose does them',
  async (t) => {
    await volume('state', 'size=64Mi', 'fstype=ext4');
    await startWriter('db', 'state');
    const before = await linesAfter('db', 3);
    await daemon.docker('stop', '--time', '1', 'db');
    await daemon.docker('start', 'db');
    const started = await linesAfter('db', before);
    await daemon.docker('restart', '--time', '1', 'db');
    const restarted = await linesAfter('db', started);
    await remove('db');
    await startWriter('db', 'state');
    t.true((await linesAfter('db', restarted)) > restarted);
    const inUse = await daemon.tryDocker('volume', 'rm', 'state');
    t.regex(inUse.stderr, /in use/);
    await remove('db');
    await daemon.docker('volume', 'rm', 'state');
  },
);

test.serial('a full volume is full only for its own containers', async (t) => {
  await volume('small', 'size=16Mi');
  await volume('other', 'size=16Mi');
  const fill = await daemon.tryDocker(
    'run',
    '--rm',
    '--volume',
    'small:/data',
    busybox,
    'dd',
    'if=/dev/zero',
    'of=/data/big',
    'bs=1M',
    'count=32',
  );
  t.not(fill.exitCode, 0);
  t.regex(fill.stderr, /No space left on device/);
  const { bavail, bsize } = await statfs(plugin.poolPath);
  t.true(bavail * bsize > 100 << 20);
  t.is(
    await shell(['--rm', '--volume', 'other:/data'], 'echo fine >/data/x && cat /data/x'),
    'fine',
  );
  await daemon.docker('volume', 'rm', 'small', 'other');
});

const refusals: readonly { name: string; options: readonly string[]; says: RegExp }[] = [
  {
    name: 'an unknown option',
    options: ['sise=1Gi'],
    says: /create refused: option 'sise' is not known; known options: size, fstype, pool, provisioning, mkfsOptions, readBytesPerSecond, writeBytesPerSecond, readIops, writeIops, mountOptions, from/,
  },
  {
    name: 'no size',
    options: ['size=large'],
    says: /option size: 'large' is not a size; use a value such as/,
  },
  {
    name: 'an unknown pool',
    options: ['pool=gold'],
    says: /there is no pool 'gold' on this node; its pools are default/,
  },
  {
    name: 'an unknown source',
    options: ['from=nobody'],
    says: /there is no volume or snapshot 'nobody' on this node/,
  },
  { name: 'a mount option that is not allowed', options: ['mountOptions=bind'], says: /bind/ },
];
for (const { name, options, says } of refusals) {
  test.serial(`docker shows the reason of a refusal: ${name}`, async (t) => {
    const flags = options.flatMap((one) => ['--opt', one]);
    const { exitCode, stderr } = await daemon.tryDocker(
      'volume',
      'create',
      '--driver',
      driverName,
      ...flags,
      'refused',
    );
    t.not(exitCode, 0);
    t.regex(stderr, says);
    t.is(await daemon.docker('volume', 'ls', '--quiet', '--filter', 'name=refused'), '');
  });
}

for (const name of ['A_b.c-1', 'x'.repeat(200), 'pvc-01.0123abcd', 'v1.json']) {
  test.serial(`a volume with an unusual name can be used: ${name.slice(0, 20)}`, async (t) => {
    await volume(name, 'size=16Mi');
    t.is(await shell(['--rm', '--volume', `${name}:/data`], 'echo 1 >/data/a; cat /data/a'), '1');
    t.is(await daemon.docker('volume', 'inspect', '--format', '{{.Name}}', name), name);
    await daemon.docker('volume', 'rm', name);
    t.false((await daemon.docker('volume', 'ls', '--quiet')).split('\n').includes(name));
  });
}

test.serial('inspect shows the status of the volume', async (t) => {
  await volume('seen', 'size=64Mi');
  await startWriter('busy', 'seen');
  const status = await statusOf('seen');
  t.like(status, {
    size: '64 MiB',
    sizeBytes: String(64 << 20),
    filesystem: 'ext4',
    pool: 'default',
    node: 'node-a',
    snapshots: [],
  });
  t.true(Number(status['usedBytes']) > 0);
  t.true(Number(status['allocatedBytes']) > 0);
  await remove('busy');
  await daemon.docker('volume', 'rm', 'seen');
});

test.serial(
  'docker cp works in both directions while other containers start with the volume',
  async (t) => {
    await volume('copied', 'size=64Mi');
    await startWriter('first', 'copied');
    await daemon.docker('exec', 'first', 'dd', 'if=/dev/zero', 'of=/data/big', 'bs=1M', 'count=16');
    const file = join(node.directory, 'word');
    await writeFile(file, 'from outside');
    await daemon.docker('cp', file, 'first:/data/word');
    // Its output is not read: docker cp blocks, and the volume stays bound in the container's root.
    const copying = spawn(dockerPrograms.client, [
      '--host',
      `unix://${daemon.socket}`,
      'cp',
      'first:/data/big',
      '-',
    ]);
    t.teardown(() => copying.kill('SIGKILL'));
    await once(copying.stdout, 'readable');
    t.is(await shell(['--rm', '--volume', 'copied:/data'], 'cat /data/word'), 'from outside');
    copying.kill('SIGKILL');
    await once(copying, 'exit');
    await remove('first');
    await daemon.docker('volume', 'rm', 'copied');
  },
);

test.serial('many containers that start at the same time share one volume', async (t) => {
  await volume('shared', 'size=64Mi');
  const names = [1, 2, 3, 4].map((i) => `share${i}`);
  await Promise.all(
    names.map((name) =>
      shell(
        ['--detach', '--name', name, '--volume', 'shared:/data'],
        `echo x >/data/${name}; exec sleep 1000`,
      ),
    ),
  );
  await Promise.all(names.map(remove));
  t.is(await shell(['--rm', '--volume', 'shared:/data'], 'ls /data | wc -l'), '4');
  await daemon.docker('volume', 'rm', 'shared');
});

test.serial(
  'after SIGKILL of the plugin, writers continue, and everything is released afterwards',
  async (t) => {
    await volume('kept', 'size=64Mi');
    await startWriter('one', 'kept');
    await startWriter('two', 'kept');
    const before = await linesAfter('one', 3);
    await plugin.kill();
    const during = await linesAfter('one', before + 5);
    await plugin.start();
    t.true((await linesAfter('two', during)) > during);
    await remove('one');
    const path = await daemon.docker('volume', 'inspect', '--format', '{{.Mountpoint}}', 'kept');
    const [file = '', ...enter] = node.enter;
    t.true(Number(await run(file, [...enter, 'stat', '--format=%s', join(path, 'lines')])) > 0);
    await remove('two');
    t.is(await daemon.docker('volume', 'inspect', '--format', '{{.Mountpoint}}', 'kept'), '');
    await daemon.docker('volume', 'rm', 'kept');
  },
);

test.serial(
  'live-restore: after SIGKILL of dockerd, containers and volumes still work',
  async (t) => {
    await volume('live', 'size=64Mi');
    await startWriter('alive', 'live');
    const before = await linesAfter('alive', 3);
    await daemon.kill();
    await daemon.start();
    t.is(await daemon.docker('inspect', '--format', '{{.State.Running}}', 'alive'), 'true');
    t.true((await linesAfter('alive', before + 5)) > before);
    await remove('alive');
    t.is(await daemon.docker('volume', 'inspect', '--format', '{{.Mountpoint}}', 'live'), '');
    await daemon.docker('volume', 'rm', 'live');
  },
);

test.serial(
  'live-restore: after both were killed, a container that ended without an unmount does not block its volume',
  async (t) => {
    await volume('lost', 'size=64Mi');
    await startWriter('gone', 'lost');
    await linesAfter('gone', 3);
    await plugin.kill();
    await daemon.kill();
    // dockerd starts without the plugin, so it never sends it the unmount of this container.
    await daemon.start();
    await plugin.start();
    await remove('gone');
    t.is(
      await shell(['--rm', '--volume', 'lost:/data'], 'test -s /data/lines && echo there'),
      'there',
    );
    await daemon.docker('volume', 'rm', 'lost');
  },
);

test.serial(
  'after a restart of dockerd without live-restore, containers have their data again',
  async (t) => {
    await volume('again', 'size=64Mi');
    await startWriter('always', 'again', '--restart', 'always');
    const before = await linesAfter('always', 3);
    await daemon.stop();
    await daemon.start();
    t.true((await linesAfter('always', before)) > before);
    await remove('always');
    await daemon.docker('volume', 'rm', 'again');
  },
);

test.serial(
  'the commands of the pages work as pasted, and print what the pages show',
  async (t) => {
    await daemon.docker('tag', busybox, 'busybox');
    const bin = await makePrograms(node.directory, {
      docker: `exec ${dockerPrograms.client} --host=unix://${daemon.socket} "$@"`,
      loopcsi: `exec ${join(root, 'bin', 'loopcsi')} "$@" --endpoint=unix://${plugin.endpoint()}`,
    });
    const environment = { PATH: `${bin}:${process.env['PATH'] ?? ''}` };
    for (const page of ['README.md', 'docs/docker.md']) {
      const blocks = await blocksOf(page, 'docker');
      t.true(blocks.length > 0);
      for (const block of blocks) await runBlock(t, block, { environment });
    }
    await daemon.docker('volume', 'rm', 'data', 'app', 'app_pgdata');
  },
);
