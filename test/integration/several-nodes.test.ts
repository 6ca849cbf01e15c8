import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { execa } from 'execa';
import type { Client } from '../../src/csi/client.ts';
import { messageOf } from '../../src/errors.ts';
import { nodeTagOf } from '../../src/ids.ts';
import { launcher } from '../helpers/command-line.ts';
import { codeOf } from '../helpers/csi-server.ts';
import { clientAt, type Lab, type LabNode, makeLab, untilAllReady } from '../helpers/lab.ts';
import { onNode } from '../helpers/on-node.ts';
import { onScratch } from '../helpers/root-scratch.ts';
import { scaledMs } from '../helpers/slowness.ts';
import { until } from '../helpers/until.ts';

type Controller = Client<'csi.v1.Controller'>;

/** A call with this limit must be answered, by whatever code: DEADLINE_EXCEEDED fails the test. */
const limit = () => ({ timeoutMs: scaledMs(30_000) });
const mebibyte = 1024n ** 2n;

async function create(controller: Controller, name: string, { id }: LabNode): Promise<string> {
  const topology = { segments: { 'topology.loopcsi.io/node': id } };
  const { volume } = await controller.CreateVolume(
    {
      name,
      capacity_range: { required_bytes: 16n * mebibyte },
      volume_capabilities: [
        {
          access_mode: { mode: 'SINGLE_NODE_WRITER' },
          access_type: 'block',
          block: {},
        },
      ],
      accessibility_requirements: { requisite: [topology], preferred: [topology] },
    },
    limit(),
  );
  return volume?.volume_id ?? '';
}

async function idsOf(controller: Controller): Promise<readonly string[]> {
  const { entries } = await controller.ListVolumes({}, limit());
  return entries.map(({ volume }) => volume?.volume_id ?? '');
}

/** While a node is away: its volumes are unavailable, and never gone; those of the others can be used. */
async function requireAway(
  t: ExecutionContext,
  controller: Controller,
  { lab, away }: { readonly lab: Lab; readonly away: LabNode },
): Promise<void> {
  const id = `data.${nodeTagOf(away.id)}`;
  t.is(await codeOf(controller.DeleteVolume({ volume_id: id }, limit())), 'UNAVAILABLE');
  t.is(await codeOf(controller.ListVolumes({}, limit())), 'UNAVAILABLE');
  t.is(await codeOf(controller.ControllerGetVolume({ volume_id: id }, limit())), 'UNAVAILABLE');
  for (const node of lab.nodes.filter((one) => one !== away)) {
    const other = await create(controller, 'meanwhile', node);
    await controller.DeleteVolume({ volume_id: other }, limit());
  }
}

const inLab = (work: (t: ExecutionContext, lab: Lab) => Promise<void>) => (t: ExecutionContext) => {
  t.timeout(10 * 60_000);
  return onScratch(t, async ({ directory }) => {
    // The lab ends before the directory is removed.
    const teardowns: (() => unknown)[] = [];
    const scope = Object.assign(Object.create(t) as ExecutionContext, {
      teardown: (end: () => unknown) => teardowns.push(end),
    });
    try {
      await work(scope, await makeLab(scope, directory, { nodeCount: 3 }));
    } finally {
      for (const end of teardowns.reverse()) await end();
    }
  });
};

onNode(
  'three nodes and a controller: each call reaches its node; a node that is killed, hung or cut off is unavailable, and the others are not affected',
  inLab(async (t, lab) => {
    const [one, two, three] = lab.nodes;
    if (one === undefined || two === undefined || three === undefined) throw new Error('no lab');
    const controller = clientAt(t, 'csi.v1.Controller', lab.endpoint);
    await untilAllReady(controller);
    const ids: string[] = [];
    for (const node of lab.nodes) ids.push(await create(controller, 'data', node));
    t.deepEqual(
      ids,
      lab.nodes.map(({ id }) => `data.${nodeTagOf(id)}`),
    );
    t.deepEqual([...(await idsOf(controller))].sort(), [...ids].sort());
    for (const [index, node] of lab.nodes.entries()) {
      const local = clientAt(t, 'csi.v1.Controller', node.driver().endpoint);
      t.deepEqual(await idsOf(local), [ids[index]]);
    }

    await two.kill();
    await requireAway(t, controller, { lab, away: two });
    await two.start();
    await untilAllReady(controller);

    three.hang();
    await requireAway(t, controller, { lab, away: three });
    three.resume();
    await untilAllReady(controller);

    await one.cut();
    await requireAway(t, controller, { lab, away: one });
    await one.mend();
    await untilAllReady(controller);

    t.deepEqual([...(await idsOf(controller))].sort(), [...ids].sort());
    for (const id of ids) await controller.DeleteVolume({ volume_id: id }, limit());
    t.deepEqual(await idsOf(controller), []);
  }),
);

onNode(
  'renewed certificates are used by all nodes and the controller, without a failed call',
  inLab(async (t, lab) => {
    const controller = clientAt(t, 'csi.v1.Controller', lab.endpoint);
    await untilAllReady(controller);
    const loaded = async (): Promise<number> => {
      const logs = [
        readFile(lab.controllerLog, 'utf8'),
        ...lab.nodes.map((node) => node.driver().log()),
      ];
      const lines = (await Promise.all(logs)).flatMap((log) => log.split('\n'));
      return lines.filter((line) => line.includes('TLS certificates were loaded')).length;
    };
    const processes = lab.nodes.length + 1;
    t.is(await loaded(), processes);
    const codes = new Set<string>();
    let isDone = false;
    const load = (async () => {
      while (!isDone) {
        codes.add(
          await controller.ListVolumes({}, limit()).then(
            () => 'OK',
            (error: unknown) => messageOf(error),
          ),
        );
      }
    })();
    await execa(launcher, ['tls', 'create', lab.tlsDir, '--renew']);
    await until('all use the new ones', async () => (await loaded()) === 2 * processes);
    // A driver that is started now accepts only what the controller has now.
    const [first] = lab.nodes;
    isDone = true;
    await load;
    t.deepEqual([...codes], ['OK']);
    await first?.kill();
    await first?.start();
    await untilAllReady(controller);
    t.true((await readFile(join(lab.tlsDir, 'agent', 'tls.crt'), 'utf8')).length > 0);
  }),
);
