import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { execa } from 'execa';
import type { Client } from '../../src/csi/client.ts';
import { messageOf } from '../../src/errors.ts';
import { nodeTagOf, volumeIdFor } from '../../src/ids.ts';
import { MiB } from '../../src/units.ts';
import { launcher } from '../helpers/command-line.ts';
import { codeOf } from '../helpers/csi-server.ts';
import { clientAt, inLab, type Lab, type LabNode, onlyOn, untilAllReady } from '../helpers/lab.ts';
import { onNode } from '../helpers/on-node.ts';
import { scaledMs } from '../helpers/slowness.ts';
import { until } from '../helpers/until.ts';

type Controller = Client<'csi.v1.Controller'>;

/** A call with this limit must be answered, by whatever code: DEADLINE_EXCEEDED fails the test. */
const limit = () => ({ timeoutMs: scaledMs(30_000) });

const aVolume = {
  capacity_range: { required_bytes: 16n * MiB },
  volume_capabilities: [
    {
      access_mode: { mode: 'SINGLE_NODE_WRITER' as const },
      access_type: 'block' as const,
      block: {},
    },
  ],
};

async function create(controller: Controller, name: string, node: LabNode): Promise<string> {
  const request = { ...aVolume, ...onlyOn(node), name };
  const { volume } = await controller.CreateVolume(request, limit());
  return volume?.volume_id ?? '';
}

async function idsOf(controller: Controller): Promise<readonly string[]> {
  const { entries } = await controller.ListVolumes({}, limit());
  return entries.map(({ volume }) => volume?.volume_id ?? '');
}

/** While a node is unreachable: its volumes are unavailable, and never gone; those of the others can be used. */
async function requireUnreachable(
  t: ExecutionContext,
  controller: Controller,
  { lab, unreachable }: { readonly lab: Lab; readonly unreachable: LabNode },
): Promise<void> {
  const id = `data.${nodeTagOf(unreachable.id)}`;
  // A node that hangs may carry it out once it goes on, so this volume must not be one that is used afterwards.
  const doomed = `doomed.${nodeTagOf(unreachable.id)}`;
  t.is(await codeOf(controller.DeleteVolume({ volume_id: doomed }, limit())), 'UNAVAILABLE');
  t.is(await codeOf(controller.ListVolumes({}, limit())), 'UNAVAILABLE');
  t.is(await codeOf(controller.ControllerGetVolume({ volume_id: id }, limit())), 'UNAVAILABLE');
  for (const node of lab.nodes.filter((one) => one !== unreachable)) {
    const other = await create(controller, 'meanwhile', node);
    await controller.DeleteVolume({ volume_id: other }, limit());
  }
}

onNode(
  'three nodes and a controller: each call reaches its node; a node that is killed, hung or cut off is unavailable, and the others are not affected',
  inLab({ nodeCount: 3 }, async (t, lab) => {
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
    await requireUnreachable(t, controller, { lab, unreachable: two });
    await two.start();
    await untilAllReady(controller);

    three.hang();
    await requireUnreachable(t, controller, { lab, unreachable: three });
    three.resume();
    await untilAllReady(controller);

    await one.cut();
    await requireUnreachable(t, controller, { lab, unreachable: one });
    await one.mend();
    await untilAllReady(controller);

    t.deepEqual([...(await idsOf(controller))].sort(), [...ids].sort());
    for (const id of ids) await controller.DeleteVolume({ volume_id: id }, limit());
    t.deepEqual(await idsOf(controller), []);
  }),
);

onNode(
  'three nodes and a controller: a volume on any node, pages, growth, snapshots, and restores on the node of the snapshot or another one',
  inLab({ nodeCount: 3 }, async (t, lab) => {
    const [one, two] = lab.nodes;
    if (one === undefined || two === undefined) throw new Error('no lab');
    const controller = clientAt(t, 'csi.v1.Controller', lab.endpoint);
    await untilAllReady(controller);
    const ids: string[] = [];
    for (const node of lab.nodes) ids.push(await create(controller, 'data', node));
    // A second volume on some node, and the same one when the call is repeated.
    const { volume: chosen } = await controller.CreateVolume({ ...aVolume, name: 'anywhere' });
    const again = await controller.CreateVolume({ ...aVolume, name: 'anywhere' });
    t.deepEqual(again.volume, chosen);
    ids.push(chosen?.volume_id ?? '');
    const paged: string[] = [];
    let token = '';
    do {
      const page = await controller.ListVolumes({ max_entries: 1, starting_token: token });
      paged.push(...page.entries.map(({ volume }) => volume?.volume_id ?? ''));
      token = page.next_token;
    } while (token !== '');
    t.deepEqual(paged.sort(), [...ids].sort());

    const source_volume_id = volumeIdFor('data', nodeTagOf(two.id));
    const grown = await controller.ControllerExpandVolume({
      volume_id: source_volume_id,
      capacity_range: { required_bytes: 32n * MiB },
    });
    t.is(grown.capacity_bytes, 32n * MiB);
    const { snapshot } = await controller.CreateSnapshot({ name: 'snap', source_volume_id });
    const snapshot_id = snapshot?.snapshot_id ?? '';
    await until(
      'the snapshot is ready',
      async () => (await controller.GetSnapshot({ snapshot_id })).snapshot?.ready_to_use ?? false,
    );
    const restore = {
      ...aVolume,
      capacity_range: { required_bytes: 32n * MiB },
      name: 'restored',
      volume_content_source: { type: 'snapshot', snapshot: { snapshot_id } } as const,
    };
    const { volume: restored } = await controller.CreateVolume(restore);
    t.is(restored?.volume_id, volumeIdFor('restored', nodeTagOf(two.id)));
    const { volume: elsewhere } = await controller.CreateVolume({ ...restore, ...onlyOn(one) });
    t.is(elsewhere?.volume_id, volumeIdFor('restored', nodeTagOf(one.id)));
    ids.push(elsewhere?.volume_id ?? '');

    for (const volume_id of [...ids, restored?.volume_id ?? ''])
      await controller.DeleteVolume({ volume_id });
    await controller.DeleteSnapshot({ snapshot_id });
    t.deepEqual(await idsOf(controller), []);
    t.deepEqual((await controller.ListSnapshots({})).entries, []);
  }),
);

onNode(
  'renewed certificates are used by all nodes and the controller, without a failed call',
  inLab({ nodeCount: 3 }, async (t, lab) => {
    const controller = clientAt(t, 'csi.v1.Controller', lab.endpoint);
    await untilAllReady(controller);
    const loaded = async (): Promise<number> => {
      const logs = [
        ...lab.controllers.map((one) => one.log()),
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
