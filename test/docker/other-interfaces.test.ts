import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { attempt, type CommandResult } from '../../scripts/command.ts';
import { makeClient } from '../../src/csi/client.ts';
import { MiB } from '../../src/units.ts';
import { type Daemon, startDaemon } from './daemon.ts';
import { busybox, type Lab, makeNode, type NodeSpace, openLab } from './lab.ts';
import { driverName, type Plugin, startPlugin } from './plugin.ts';

/** The same volumes over other interfaces: the command line, CSI, podman. */
let lab: Lab;
let node: NodeSpace;
let plugin: Plugin;
let daemon: Daemon;

test.before(async () => {
  lab = await openLab();
  node = await makeNode(lab, 'a');
  plugin = await startPlugin(lab, node, { nodeId: 'node-a', xfsBytes: 2048n * MiB });
  daemon = await startDaemon(lab, node);
});
test.after.always('nothing is left behind', async () => {
  const left = await lab.close();
  if (left.length > 0) throw new Error(`left behind: ${left.join('; ')}`);
});

const shell = (volume: string, script: string): Promise<string> =>
  daemon.docker('run', '--rm', '--volume', `${volume}:/data`, busybox, 'sh', '-c', script);

const create = (name: string, ...options: readonly string[]): Promise<string> =>
  daemon.docker(
    ...['volume', 'create', '--driver', driverName],
    ...options.flatMap((one) => ['--opt', one]),
    name,
  );

async function loopcsi(...args: readonly string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await plugin.loopcsi(...args);
  if (exitCode !== 0) throw new Error(`loopcsi ${args.join(' ')}: ${stderr}`);
  return stdout;
}

test.serial(
  'the command line lists, grows, snapshots and restores volumes that docker created',
  async (t) => {
    await create('db', 'size=320Mi', 'fstype=xfs');
    await daemon.docker(
      ...['run', '--detach', '--name', 'user', '--volume', 'db:/data', busybox],
      ...['sh', '-c', 'echo first >/data/word; sync /data/word; exec sleep 1000'],
    );
    const inside = (script: string): Promise<string> =>
      daemon.docker('exec', 'user', 'sh', '-c', script);
    await inside('until test -s /data/word; do sleep 0.05; done');
    t.regex(await loopcsi('volume', 'list'), /\bdb\b/);
    await loopcsi('volume', 'expand', 'db', '--size', '640Mi');
    t.true(Number(await inside("df -m /data | tail -n 1 | awk '{print $2}'")) > 500);
    await loopcsi('snapshot', 'create', 'db', 'monday');
    await inside('echo second >/data/word; sync /data/word');
    const snapshots = await daemon.docker(
      'volume',
      'inspect',
      '--format',
      '{{.Status.snapshots}}',
      'db',
    );
    t.is(snapshots, '[monday]');
    await create('restored', 'from=snapshot:monday');
    await create('cloned', 'from=volume:db');
    t.is(await shell('restored', 'cat /data/word'), 'first');
    t.is(await shell('cloned', 'cat /data/word'), 'second');
    t.is(
      await daemon.docker('volume', 'inspect', '--format', '{{.Status.size}}', 'restored'),
      '640 MiB',
    );
    const refused = await plugin.loopcsi('volume', 'delete', 'db', '--yes');
    t.not(refused.exitCode, 0);
    await daemon.docker('rm', '--force', 'user');
    await loopcsi('snapshot', 'delete', 'monday', '--yes');
    await daemon.docker('volume', 'rm', 'db', 'restored', 'cloned');
  },
);

test.serial(
  'docker can use a CSI volume that is not staged; a volume in use by Docker is refused for CSI, and vice versa',
  async (t) => {
    const endpoint = `unix://${plugin.endpoint()}`;
    const controller = makeClient('csi.v1.Controller', endpoint);
    const onNode = makeClient('csi.v1.Node', endpoint);
    t.teardown(() => {
      controller.close();
      onNode.close();
    });
    const volume_capability = {
      access_type: 'mount',
      mount: { fs_type: 'ext4', mount_flags: [], volume_mount_group: '' },
      access_mode: { mode: 'SINGLE_NODE_WRITER' },
    } as const;
    const { volume } = await controller.CreateVolume({
      name: 'pvc-7',
      capacity_range: { required_bytes: 64n * MiB, limit_bytes: 0n },
      volume_capabilities: [volume_capability],
    });
    const volume_id = volume?.volume_id ?? '';
    t.is(await shell('pvc-7', 'ls -A /data; echo docker >/data/word; cat /data/word'), 'docker');

    const staging_target_path = join(plugin.directory, 'staging');
    await mkdir(staging_target_path);
    await onNode.NodeStageVolume({ volume_id, staging_target_path, volume_capability });
    const refused = await daemon.tryDocker(
      'run',
      '--rm',
      '--volume',
      'pvc-7:/data',
      busybox,
      'true',
    );
    t.not(refused.exitCode, 0);
    t.regex(
      refused.stderr,
      /volume 'pvc-7\.\w{8}' is in use outside Docker \(mounted at .*staging\)/,
    );
    await onNode.NodeUnstageVolume({ volume_id, staging_target_path });

    const flags = ['--detach', '--name', 'holder', '--volume', 'pvc-7:/data'];
    await daemon.docker('run', ...flags, busybox, 'sleep', '1000');
    await t.throwsAsync(
      onNode.NodeStageVolume({ volume_id, staging_target_path, volume_capability }),
      {
        message:
          /in use by Docker containers of this machine \(mounted at .*\); stop and remove them first/,
      },
    );
    await t.throwsAsync(controller.DeleteVolume({ volume_id }), { message: /is in use/ });
    await daemon.docker('rm', '--force', 'holder');
    await onNode.NodeStageVolume({ volume_id, staging_target_path, volume_capability });
    await onNode.NodeUnstageVolume({ volume_id, staging_target_path });
    await controller.DeleteVolume({ volume_id });
    // Docker learns of it at its next request.
    const gone = await daemon.tryDocker('volume', 'inspect', 'pvc-7');
    t.not(gone.exitCode, 0);
  },
);

test.serial('podman uses volumes through the same socket', async (t) => {
  const directory = join(node.directory, 'podman');
  await mkdir(directory);
  const config = join(directory, 'containers.conf');
  await writeFile(
    config,
    [
      '[containers]',
      // Even root may not be allowed to raise them.
      'default_ulimits = ["nofile=1024:4096", "nproc=4096:4096"]',
      'netns = "none"',
      '[engine]',
      'cgroup_manager = "cgroupfs"',
      'events_logger = "none"',
      '[engine.volume_plugins]',
      `${driverName} = "${join(node.plugins, `${driverName}.sock`)}"`,
    ].join('\n'),
  );
  const tryPodman = (...args: readonly string[]): Promise<CommandResult> => {
    const places = ['--root', join(directory, 'root'), '--runroot', join(directory, 'run')];
    const argv = [...node.enter, 'podman', ...places, '--log-level', 'error', ...args];
    const [file = '', ...rest] = argv;
    return attempt(file, rest, { env: { CONTAINERS_CONF: config } });
  };
  const podman = async (...args: readonly string[]): Promise<string> => {
    const { exitCode, stdout, stderr } = await tryPodman(...args);
    if (exitCode !== 0) throw new Error(`podman ${args.join(' ')}: ${stderr}`);
    return stdout.trim();
  };
  await podman('load', '--input', lab.imageArchive);
  await podman('volume', 'create', '--driver', driverName, '--opt', 'size=64Mi', 'pod');
  const cgroup = ['--cgroup-parent', `/${lab.cgroup}`];
  const inPodman = (...args: readonly string[]): Promise<string> =>
    podman('run', ...cgroup, ...args);
  t.is(
    await inPodman(
      '--rm',
      '--volume',
      'pod:/data',
      busybox,
      'sh',
      '-c',
      'echo kept >/data/word; cat /data/word',
    ),
    'kept',
  );
  await inPodman('--detach', '--name', 'one', '--volume', 'pod:/data', busybox, 'sleep', '1000');
  await inPodman('--detach', '--name', 'two', '--volume', 'pod:/data', busybox, 'sleep', '1000');
  t.is(await podman('exec', 'two', 'cat', '/data/word'), 'kept');
  await podman('rm', '--force', '--time', '0', 'one');
  // podman has the same mount ID for all of its containers.
  t.is(await podman('exec', 'two', 'cat', '/data/word'), 'kept');
  await podman('rm', '--force', '--time', '0', 'two');
  t.regex(await podman('volume', 'ls'), /loopcsi +pod/);
  await podman('volume', 'rm', 'pod');
  t.false((await loopcsi('volume', 'list')).includes('pod'));
});
