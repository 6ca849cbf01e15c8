/** Copies between nodes: a restore on another node beside a bare TLS stream of the same bytes to the same disk. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { makeClient } from '../src/csi/client.ts';
import { nodeTagOf, volumeIdFor } from '../src/ids.ts';
import { GiB, MiB } from '../src/units.ts';
import { launcher } from '../test/helpers/command-line.ts';
import { startDriver } from '../test/helpers/driver.ts';
import { onlyOn } from '../test/helpers/lab.ts';
import { until } from '../test/helpers/until.ts';
import { asMarkdown, elapsedMs, median, processorMs } from './measure.ts';

const rounds = 5;
const dataBytes = GiB;
const sizeBytes = 2n * GiB;
const ports = { from: 9831, to: 9832, bare: 9833 } as const;
const baseline = join(import.meta.dirname, 'bare-tls.js');

const aVolume = {
  capacity_range: { required_bytes: sizeBytes },
  volume_capabilities: [
    {
      access_mode: { mode: 'SINGLE_NODE_WRITER' },
      access_type: 'block',
      block: {},
    },
  ],
} as const;

export async function benchTransfers(directory: string): Promise<string> {
  const tls = join(directory, 'tls');
  await execa(launcher, ['tls', 'create', tls]);
  const start = async (nodeId: 'from' | 'to') => {
    const home = join(directory, nodeId);
    await mkdir(home);
    return startDriver(home, [
      '--log-level=warn',
      `--node-id=${nodeId}`,
      `--agent-address=127.0.0.1:${ports[nodeId]}`,
      `--tls-dir=${join(tls, 'agent')}`,
    ]);
  };
  const drivers = [await start('from'), await start('to')];
  const endpoint = join(directory, 'controller.sock');
  const controller = execa(launcher, [
    'controller',
    `--endpoint=unix://${endpoint}`,
    `--agents=static:127.0.0.1:${ports.from},127.0.0.1:${ports.to}`,
    `--tls-dir=${join(tls, 'controller')}`,
    `--node-records=file://${join(directory, 'nodes.json')}`,
    '--http-address=off',
    '--log-level=warn',
  ]);
  controller.catch(() => undefined);
  try {
    const pids = drivers.map(({ pid }) => pid);
    return await compare(directory, { endpoint, tlsDir: join(tls, 'agent'), pids });
  } finally {
    controller.kill();
    await controller.catch(() => undefined);
    for (const driver of drivers) await driver.stop();
  }
}

async function compare(
  directory: string,
  { endpoint, tlsDir, pids }: { endpoint: string; tlsDir: string; pids: readonly number[] },
): Promise<string> {
  const controller = makeClient('csi.v1.Controller', `unix://${endpoint}`);
  const isReady = async (): Promise<boolean> =>
    controller.ListVolumes({}).then(
      () => true,
      () => false,
    );
  await until('both agents are ready', isReady);
  await controller.CreateVolume({ ...aVolume, name: 'source', ...onlyOn({ id: 'from' }) });
  const source_volume_id = volumeIdFor('source', nodeTagOf('from'));
  const image = join(directory, 'from', 'pool', 'volumes', source_volume_id, 'disk.img');
  await fill(image);
  const { snapshot } = await controller.CreateSnapshot({ name: 'snap', source_volume_id });
  const snapshot_id = snapshot?.snapshot_id ?? '';
  await until(
    'the snapshot is ready',
    async () => (await controller.GetSnapshot({ snapshot_id })).snapshot?.ready_to_use ?? false,
  );
  const plain = join(directory, 'plain');
  const count = String(dataBytes / MiB);
  await execa('dd', [`if=${image}`, `of=${plain}`, 'bs=1M', `count=${count}`, 'conv=fsync']);
  const times = { restore: [] as number[], bare: [] as number[] };
  const used = async (): Promise<readonly number[]> => Promise.all(pids.map(processorMs));
  const before = await used();
  for (let round = 0; round < rounds; round += 1) {
    const name = `copy-${round}`;
    const request = {
      ...aVolume,
      name,
      ...onlyOn({ id: 'to' }),
      volume_content_source: { type: 'snapshot', snapshot: { snapshot_id } } as const,
    };
    times.restore.push(await elapsedMs(() => controller.CreateVolume(request)));
    await controller.DeleteVolume({ volume_id: volumeIdFor(name, nodeTagOf('to')) });
    times.bare.push(await bareCopy(plain, join(directory, 'received'), tlsDir));
  }
  const after = await used();
  const [sender, receiver] = pids.map(
    (_, index) => ((after[index] ?? 0) - (before[index] ?? 0)) / rounds,
  );
  controller.close();
  const rate = (ms: number): string => ((Number(dataBytes / MiB) * 1000) / ms).toFixed(0);
  const [restore, bare] = [median(times.restore), median(times.bare)];
  return asMarkdown(
    ['1 GiB of data', 'seconds', 'MiB/s'],
    [
      ['restore on another node', (restore / 1000).toFixed(2), rate(restore)],
      ['bare TLS stream to a file', (bare / 1000).toFixed(2), rate(bare)],
      ['ratio of the rates', (bare / restore).toFixed(2), ''],
      ['processor time of the node that sends', ((sender ?? 0) / 1000).toFixed(2), ''],
      ['processor time of the node that receives', ((receiver ?? 0) / 1000).toFixed(2), ''],
    ],
  );
}

async function fill(image: string): Promise<void> {
  const file = await open(image, 'r+');
  for (let offset = 0n; offset < dataBytes; offset += 16n * MiB)
    await file.write(randomBytes(Number(16n * MiB)), 0, Number(16n * MiB), Number(offset));
  await file.sync();
  await file.close();
}

async function bareCopy(from: string, to: string, tlsDir: string): Promise<number> {
  const sender = execa('node', [baseline, 'send', String(ports.bare), from, tlsDir]);
  await once(sender.stdout, 'data');
  const { stdout } = await execa('node', [baseline, 'receive', String(ports.bare), to, tlsDir]);
  await sender;
  await rm(to);
  return Number(stdout);
}
