import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { nodeTagOf } from '../../src/ids.ts';
import { controllerOf } from '../helpers/agent.ts';
import { makeCertificates, writeTlsFiles } from '../helpers/certificates.ts';
import { codeOf } from '../helpers/csi-server.ts';
import { portOf, startDriver } from '../helpers/driver.ts';
import { onNode } from '../helpers/on-node.ts';
import { onScratch } from '../helpers/root-scratch.ts';
import { until } from '../helpers/until.ts';

const inScratch =
  (work: (t: ExecutionContext, directory: string) => Promise<void>) =>
  async (t: ExecutionContext) =>
    onScratch(t, async ({ directory }) => work(t, directory));

const aVolume = {
  name: 'data',
  capacity_range: { required_bytes: 16n * 1024n ** 2n },
  volume_capabilities: [
    {
      access_mode: { mode: 'SINGLE_NODE_WRITER' as const },
      access_type: 'block' as const,
      block: {},
    },
  ],
};

onNode(
  'a driver waits for its certificates, serves the controller, and stops with its calls done',
  inScratch(async (t, directory) => {
    const certificates = await makeCertificates();
    const tlsDir = join(directory, 'tls');
    const driver = await startDriver(directory, [
      '--http-address=127.0.0.1:0',
      '--agent-address=127.0.0.1:0',
      `--tls-dir=${tlsDir}`,
    ]);
    const ready = `http://127.0.0.1:${await portOf(driver, 'httpPort')}/readyz`;
    const unready = await fetch(ready);
    t.is(unready.status, 503);
    t.regex(await unready.text(), /tls\/ca.crt cannot be read: ENOENT/);
    t.regex(await driver.log(), /TLS certificates are not usable: they are awaited/);

    await mkdir(tlsDir);
    await writeTlsFiles(tlsDir, certificates.agent, certificates.authority.certificate);
    await until('the driver is ready', async () => (await fetch(ready)).status === 200);
    const { agent, controller } = controllerOf(t, await portOf(driver, 'agentPort'), certificates);
    const hello = await agent.Hello({ api_version: 1 });
    t.like(hello, { node_id: 'test-node', node_tag: nodeTagOf('test-node'), foreign_ids: [] });
    t.deepEqual(
      hello.pools.map(({ name }) => name),
      ['default'],
    );
    const { volume } = await controller.CreateVolume(aVolume);
    t.is(volume?.volume_id, `data.${hello.node_tag}`);
    t.is((await controller.ListVolumes({})).entries.length, 1);
    await controller.DeleteVolume({ volume_id: volume?.volume_id ?? '' });
    await driver.stop();
    t.is(await driver.ended, '0');
    t.is(await codeOf(controller.ListVolumes({})), 'UNAVAILABLE');
  }),
);
