/**
 * Makes a pool with the driver of an earlier commit, and stores it for upgrade.test.ts. It runs as root:
 * `node dist/test/upgrade/capture.js DIRECTORY-OF-A-COMPILED-CHECKOUT FILE`
 */
import { mkdir, mkdtemp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { makeClient } from '../../src/csi/client.ts';
import { MiB } from '../../src/units.ts';
import { removeAll } from '../helpers/scratch-pool.ts';
import { until } from '../helpers/until.ts';
import { packDirectory } from './pool-archive.ts';

const [checkout, output] = process.argv.slice(2);
if (checkout === undefined || output === undefined) throw new Error('usage: capture CHECKOUT FILE');
const { stdout: commit } = await execa('git', ['-C', checkout, 'rev-parse', 'HEAD']);
const directory = await mkdtemp('/var/tmp/loopcsi-capture-');
const kept = join(directory, 'kept');
const socket = join(directory, 'csi.sock');
await mkdir(kept);
const driver = execa(
  process.execPath,
  [
    join(checkout, 'dist', 'src', 'main.js'),
    'serve',
    `--endpoint=unix://${socket}`,
    '--node-id=upgraded-node',
    `--pool=default=${join(kept, 'pool')},create`,
    `--state-dir=${join(kept, 'state')}`,
    '--http-address=off',
  ],
  { env: { UV_THREADPOOL_SIZE: '64' }, reject: false, stdout: 'ignore', stderr: 'inherit' },
);
const access_mode = { mode: 'SINGLE_NODE_WRITER' } as const;
const filesystem = { access_type: 'mount', mount: { fs_type: 'ext4' }, access_mode } as const;
const block = { access_type: 'block', block: {}, access_mode } as const;
try {
  await makePool();
} finally {
  driver.kill('SIGKILL');
  await driver;
}
// Only the mounts are removed: what the driver wrote stays as a crash leaves it.
await execa('umount', [join(directory, 'target')], { reject: false });
await execa('umount', [join(directory, 'staging')], { reject: false });
const { stdout: devices } = await execa('losetup', ['--noheadings', '--output', 'NAME,BACK-FILE']);
for (const [, device = ''] of devices.matchAll(new RegExp(`^(\\S+) +${kept}/`, 'gm'))) {
  await execa('losetup', ['--detach', device]);
}
await writeFile(output, `${JSON.stringify(await packDirectory(kept, commit), null, 1)}\n`);
await removeAll(directory);

async function makePool(): Promise<void> {
  const identity = makeClient('csi.v1.Identity', `unix://${socket}`);
  await until('the driver answers', async () => {
    return identity.Probe({}).then(
      () => true,
      () => false,
    );
  });
  const controller = makeClient('csi.v1.Controller', `unix://${socket}`);
  const node = makeClient('csi.v1.Node', `unix://${socket}`);
  const groups = makeClient('csi.v1.GroupController', `unix://${socket}`);
  const create = async (name: string, capability: object, more: object = {}): Promise<string> => {
    const capacity_range = { required_bytes: 8n * MiB };
    const volume_capabilities = [capability];
    const made = await controller.CreateVolume({
      name,
      capacity_range,
      volume_capabilities,
      ...more,
    });
    return made.volume?.volume_id ?? '';
  };
  const plain = await create('plain', filesystem, { parameters: { trim: 'periodic' } });
  const raw = await create('raw', block);
  await create('thick', filesystem, { parameters: { provisioning: 'thick' } });
  const at = { volume_id: plain, staging_target_path: join(directory, 'staging') };
  const target_path = join(directory, 'target');
  const publish = { ...at, target_path, volume_capability: filesystem };
  await mkdir(at.staging_target_path);
  await node.NodeStageVolume({ ...at, volume_capability: filesystem });
  await node.NodePublishVolume(publish);
  await writeFile(join(target_path, 'file'), 'written by an earlier version\n');
  await node.NodeUnpublishVolume({ volume_id: plain, target_path });
  await node.NodeUnstageVolume(at);
  const { snapshot } = await controller.CreateSnapshot({ name: 'snap', source_volume_id: plain });
  const snapshot_id = snapshot?.snapshot_id ?? '';
  await until('the snapshot is complete', async () => {
    const { entries } = await controller.ListSnapshots({ snapshot_id });
    return entries[0]?.snapshot?.ready_to_use === true;
  });
  await create('restored', filesystem, {
    volume_content_source: { type: 'snapshot', snapshot: { snapshot_id } },
  });
  await groups.CreateVolumeGroupSnapshot({ name: 'group', source_volume_ids: [plain, raw] });
  await node.NodeStageVolume({ ...at, volume_capability: filesystem });
  await node.NodePublishVolume(publish);
  for (const client of [identity, controller, node, groups]) client.close();
}
