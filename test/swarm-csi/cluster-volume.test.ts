import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import * as v from 'valibot';
import { eventually, run } from '../../scripts/command.ts';
import { type Daemon, startDaemon } from '../docker/daemon.ts';
import { busybox, type Lab, makeNode, type NodeSpace, openLab } from '../docker/lab.ts';
import { projectRoot } from '../e2e/cluster/cache.ts';
import { driverImage, images } from '../e2e/cluster/images.ts';
import { type Api, apiOf } from './api.ts';
import { swarmPrograms } from './programs.ts';

/** The driver as a managed plugin of a new dockerd, which uses it over CSI for Swarm's cluster volumes. */
let lab: Lab;
let node: NodeSpace;
let daemon: Daemon;
let api: Api;
let data: string;
const plugin = 'loopcsi';

test.before(async () => {
  const programs = await swarmPrograms();
  const image = await driverImage();
  lab = await openLab();
  node = await makeNode(lab, 'a');
  data = join(node.directory, 'data');
  await mkdir(data);
  daemon = await startDaemon(lab, node, { programs });
  api = apiOf(daemon.socket);
  await daemon.docker('load', '--input', join(image, 'driver.tar'));
  const script = join(projectRoot, 'scripts/docker-plugin.sh');
  await run('sh', [script, plugin, images.driver], {
    env: { DOCKER_HOST: `unix://${daemon.socket}`, PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
  });
  await daemon.docker('plugin', 'set', plugin, `data.source=${data}`, 'LOOPCSI_NODE_ID=node-a');
  await daemon.docker('plugin', 'enable', plugin);
  // The agent looks for plugins when the node joins, and after that only every 20 s.
  await run('ip', ['-netns', node.netns, 'address', 'add', '10.98.0.1/32', 'dev', 'lo']);
  await daemon.docker('swarm', 'init', '--advertise-addr', '10.98.0.1');
});
test.after.always('nothing is left over', async () => {
  const left = await lab.close();
  if (left.length > 0) throw new Error(`left behind: ${left.join('; ')}`);
});

const identified = v.object({ ID: v.string() });
const clusterVolume = v.object({
  ClusterVolume: v.object({
    ID: v.string(),
    Version: v.object({ Index: v.number() }),
    Info: v.optional(v.object({ VolumeID: v.optional(v.string()) })),
    PublishStatus: v.nullish(v.array(v.object({ State: v.string() }))),
    Spec: v.looseObject({}),
  }),
});

const volumeSpec = {
  AccessMode: { Scope: 'single', Sharing: 'none', MountVolume: {} },
  CapacityRange: { RequiredBytes: 64 << 20 },
  Availability: 'active',
};

async function makeService(name: string, script: string): Promise<string> {
  const made = await api.post('/v1.44/services/create', {
    Name: name,
    TaskTemplate: {
      ContainerSpec: {
        Image: busybox,
        Command: ['sh', '-c', script],
        Mounts: [{ Type: 'cluster', Source: 'cv1', Target: '/data' }],
        StopGracePeriod: 1_000_000_000,
      },
    },
    Mode: { Replicated: { Replicas: 1 } },
  });
  return v.parse(identified, made).ID;
}

async function containerOf(service: string): Promise<string> {
  return eventually(
    `a container of ${service}`,
    async () => {
      const filter = `label=com.docker.swarm.service.name=${service}`;
      const id = await daemon.docker('ps', '--quiet', '--filter', filter);
      return id === '' ? undefined : id;
    },
    { timeoutMs: 120_000 },
  );
}

async function removeService(name: string): Promise<void> {
  await daemon.docker('service', 'rm', name);
  await eventually('the end of its task', async () =>
    (await daemon.docker('ps', '--all', '--quiet')) === '' ? true : undefined,
  );
}

test.serial(
  'a cluster volume is created, published to a service, reused by the next service, and deleted',
  async (t) => {
    await api.post('/v1.44/volumes/create', {
      Name: 'cv1',
      Driver: plugin,
      ClusterVolumeSpec: volumeSpec,
    });
    await eventually('the volume', async () => {
      const { ClusterVolume } = v.parse(clusterVolume, await api.get('/v1.44/volumes/cv1'));
      return ClusterVolume.Info?.VolumeID || undefined;
    });
    await makeService('first', 'echo kept >/data/word; sync /data/word; exec sleep 1000');
    const first = await containerOf('first');
    t.regex(
      await daemon.docker('exec', first, 'sh', '-c', 'df /data | tail -n 1'),
      /^\/dev\/loop\d+ /,
    );
    t.is(
      await eventually(
        'the word',
        async () => (await daemon.docker('exec', first, 'cat', '/data/word')) || undefined,
      ),
      'kept',
    );
    await removeService('first');
    await makeService('second', 'exec sleep 1000');
    t.is(await daemon.docker('exec', await containerOf('second'), 'cat', '/data/word'), 'kept');
    await removeService('second');

    const { ClusterVolume } = v.parse(clusterVolume, await api.get('/v1.44/volumes/cv1'));
    const drained = { Spec: { ...ClusterVolume.Spec, Availability: 'drain' } };
    await api.put(
      `/v1.44/volumes/${ClusterVolume.ID}?version=${ClusterVolume.Version.Index}`,
      drained,
    );
    await eventually(
      'the removal of the volume',
      async () => {
        await api.remove('/v1.44/volumes/cv1');
        return true;
      },
      { timeoutMs: 60_000 },
    );
    const left = await eventually('the driver to have deleted it', async () => {
      const names = await readdir(join(data, 'pools/default/volumes'));
      return names.length === 0 ? names : undefined;
    });
    t.deepEqual(left, []);
    await daemon.docker('swarm', 'leave', '--force');
    await daemon.docker('plugin', 'disable', plugin);
    await daemon.docker('plugin', 'rm', plugin);
    t.false((await readFile('/proc/self/mountinfo', 'utf8')).includes(`${lab.directory}/a/docker`));
  },
);
