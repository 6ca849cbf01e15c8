import { randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeClient } from '../../src/csi/client.ts';
import { nodeTagOf, volumeIdFor } from '../../src/ids.ts';
import { MiB } from '../../src/units.ts';
import { codeOf } from '../helpers/csi-server.ts';
import { clientAt, inLab, type LabNode, onlyOn, untilAllReady } from '../helpers/lab.ts';
import {
  access_mode,
  block,
  fill,
  from,
  hashOf,
  imageOf,
  isResumed,
  leftIn,
  limit,
  midway,
  requestFor,
  slow,
  snapshotOf,
  withSource,
  xfs,
} from '../helpers/lab-copies.ts';
import { onNode } from '../helpers/on-node.ts';
import { until } from '../helpers/until.ts';

/** Stages and publishes the volume on its node, works in it, and unpublishes it. */
async function mounted(
  node: LabNode,
  volume_id: string,
  work: (directory: string) => Promise<void>,
): Promise<void> {
  const client = makeClient('csi.v1.Node', `unix://${node.driver().endpoint}`);
  const staging_target_path = join(node.directory, 'staged');
  const target_path = join(node.directory, 'published');
  await mkdir(staging_target_path, { recursive: true });
  const request = { volume_id, staging_target_path, volume_capability: xfs };
  try {
    await client.NodeStageVolume(request, limit());
    await client.NodePublishVolume({ ...request, target_path }, limit());
    await work(target_path);
    await client.NodeUnpublishVolume({ volume_id, target_path }, limit());
    await client.NodeUnstageVolume({ volume_id, staging_target_path }, limit());
  } finally {
    client.close();
  }
}

onNode(
  'a snapshot is restored on any node: on its own, on others, and larger; only its data is sent',
  inLab({ nodeCount: 3 }, async (t, lab) => {
    const [one, two, three] = lab.nodes;
    if (one === undefined || two === undefined || three === undefined) throw new Error('no lab');
    const controller = clientAt(t, 'csi.v1.Controller', lab.endpoint);
    await untilAllReady(controller);
    const source = volumeIdFor('source', nodeTagOf(one.id));
    await controller.CreateVolume({ ...requestFor('source', block, 512n * MiB), ...onlyOn(one) });
    await fill(imageOf(one, 'volumes', source), [0, 7, 100, 511], 1);
    await fill(imageOf(one, 'volumes', source), [200], 70);
    const snapshot_id = await snapshotOf(controller, 'snap', source);
    const expected = await hashOf(imageOf(one, 'snapshots', snapshot_id));

    for (const node of lab.nodes) {
      const { volume } = await controller.CreateVolume(
        { ...requestFor('copy', block, 512n * MiB), ...onlyOn(node), ...from(snapshot_id) },
        limit(),
      );
      const image = imageOf(node, 'volumes', volume?.volume_id ?? '');
      t.is(volume?.volume_id, volumeIdFor('copy', nodeTagOf(node.id)));
      t.is(volume?.content_source?.type, 'snapshot');
      t.is(await hashOf(image), expected);
      const { blocks } = await stat(image);
      t.true(blocks * 512 < 80 * 1024 * 1024, `${blocks} blocks: holes remain holes`);
      t.deepEqual(await leftIn(node), []);
    }
    // The same call again, and one for another size.
    const request = {
      ...requestFor('copy', block, 512n * MiB),
      ...onlyOn(two),
      ...from(snapshot_id),
    };
    const again = await controller.CreateVolume(request, limit());
    t.is(again.volume?.volume_id, volumeIdFor('copy', nodeTagOf(two.id)));
    const smaller = {
      ...requestFor('small', block, 64n * MiB),
      ...onlyOn(two),
      ...from(snapshot_id),
    };
    t.is(await codeOf(controller.CreateVolume(smaller, limit())), 'OUT_OF_RANGE');
    const larger = await controller.CreateVolume(
      { ...requestFor('large', block, 1024n * MiB), ...onlyOn(three), ...from(snapshot_id) },
      limit(),
    );
    t.is(larger.volume?.capacity_bytes, 1024n * MiB);
    // Without a wish, or with one for both, the node of the snapshot gets it: that needs no network.
    const anywhere = { ...requestFor('any', block, 512n * MiB), ...onlyOn(three, one, two) };
    const chosen = await controller.CreateVolume({ ...anywhere, ...from(snapshot_id) }, limit());
    t.is(chosen.volume?.volume_id, volumeIdFor('any', nodeTagOf(one.id)));
    t.is(
      await codeOf(
        controller.CreateVolume({ ...request, name: 'no', ...from(`none.${nodeTagOf(one.id)}`) }),
      ),
      'NOT_FOUND',
    );
  }),
);

onNode(
  'a filesystem is restored on another node: same files, another UUID, usable beside its source',
  inLab({ nodeCount: 2 }, async (t, lab) => {
    const given = { capability: xfs, bytes: 320n * MiB };
    const { controller, one, two, source } = await withSource(t, lab, given);
    const content = randomBytes(8 * 1024 * 1024);
    let snapshot_id = '';
    await mounted(one, source, async (directory) => {
      await writeFile(join(directory, 'file'), content, { flush: true });
      snapshot_id = await snapshotOf(controller, 'snap', source).catch(() => '');
    });
    if (snapshot_id === '') snapshot_id = await snapshotOf(controller, 'snap', source);
    const request = {
      ...requestFor('copy', xfs, 640n * MiB),
      ...onlyOn(two),
      ...from(snapshot_id),
    };
    const { volume } = await controller.CreateVolume(request, limit());
    await mounted(two, volume?.volume_id ?? '', async (directory) => {
      t.true((await readFile(join(directory, 'file'))).equals(content));
    });
    t.is(volume?.capacity_bytes, 640n * MiB);
  }),
);

onNode(
  'a filesystem is restored on another node as a raw block volume, which becomes that filesystem there',
  inLab({ nodeCount: 2 }, async (t, lab) => {
    const given = { capability: xfs, bytes: 320n * MiB };
    const { controller, one, two, source } = await withSource(t, lab, given);
    await mounted(one, source, async (directory) => {
      await writeFile(join(directory, 'file'), 'kept', { flush: true });
    });
    const snapshot_id = await snapshotOf(controller, 'snap', source);
    const asBlock = requestFor('block', block, 320n * MiB);
    const request = { ...asBlock, ...onlyOn(two), ...from(snapshot_id) };
    const volume_id = (await controller.CreateVolume(request, limit())).volume?.volume_id ?? '';
    const image = imageOf(two, 'volumes', volume_id);
    t.is(await hashOf(image), await hashOf(imageOf(one, 'snapshots', snapshot_id)));
    // Back to the first node, as a filesystem with a UUID of its own.
    const content = { type: 'volume', volume: { volume_id } } as const;
    const back = { ...requestFor('back', xfs, 320n * MiB), volume_content_source: content };
    const made = await controller.CreateVolume({ ...back, ...onlyOn(one) }, limit());
    const ext4 = { access_mode, access_type: 'mount' as const, mount: { fs_type: 'ext4' } };
    const wrong = { ...back, name: 'wrong', volume_capabilities: [ext4], ...onlyOn(one) };
    t.is(await codeOf(controller.CreateVolume(wrong, limit())), 'INVALID_ARGUMENT');
    for (const [node, id] of [
      [two, volume_id],
      [one, made.volume?.volume_id ?? ''],
    ] as const) {
      await mounted(node, id, async (directory) => {
        t.is(await readFile(join(directory, 'file'), 'utf8'), 'kept');
      });
    }
    t.is((await controller.CreateVolume(request, limit())).volume?.volume_id, volume_id);
  }),
);

onNode(
  'a raw block volume without a filesystem stays one on another node',
  inLab({ nodeCount: 2 }, async (t, lab) => {
    const given = { capability: block, bytes: 32n * MiB };
    const { controller, two, source } = await withSource(t, lab, given);
    const snapshot_id = await snapshotOf(controller, 'snap', source);
    const request = {
      ...requestFor('copy', xfs, 320n * MiB),
      ...onlyOn(two),
      ...from(snapshot_id),
    };
    t.is(await codeOf(controller.CreateVolume(request, limit())), 'INVALID_ARGUMENT');
    t.deepEqual(await leftIn(two), []);
  }),
);

const interruptions: Readonly<
  Record<string, (parts: { readonly one: LabNode; readonly two: LabNode }) => Promise<void>>
> = {
  'the driver that sends is killed': async ({ one }) => {
    await one.kill();
    await one.start();
  },
  'the driver that receives is killed': async ({ two }) => {
    await two.kill();
    await two.start();
  },
  'the driver that sends hangs': async ({ one, two }) => {
    one.hang();
    await until('the copy is kept', () => isResumed(two), 60_000);
    one.resume();
  },
  'the network between them is cut': async ({ one, two }) => {
    await one.cut();
    await until('the copy is kept', () => isResumed(two), 60_000);
    await one.mend();
  },
};

for (const [what, interrupt] of Object.entries(interruptions)) {
  onNode(
    `a copy goes on where it was after an interruption: ${what}`,
    inLab({ nodeCount: 2, flags: slow }, async (t, lab) => {
      const { finish, ...nodes } = await midway(t, lab);
      await interrupt(nodes);
      await finish();
      t.true(await isResumed(nodes.two));
    }),
  );
}

onNode(
  'a volume in use is cloned on another node, as of one moment, and nothing is left of the way',
  inLab(
    {
      nodeCount: 2,
      flags: (directory) => [`--pool=default=${join(directory, 'pool')},create,reflink=3Gi`],
    },
    async (t, lab) => {
      const given = { capability: xfs, bytes: 320n * MiB };
      const { controller, one, two, source } = await withSource(t, lab, given);
      const content = randomBytes(8 * 1024 * 1024);
      const clone = {
        ...requestFor('clone', xfs, 320n * MiB),
        ...onlyOn(two),
        volume_content_source: { type: 'volume', volume: { volume_id: source } } as const,
      };
      await mounted(one, source, async (directory) => {
        await writeFile(join(directory, 'file'), content, { flush: true });
        await controller.CreateVolume(clone, limit());
        await writeFile(join(directory, 'later'), content, { flush: true });
      });
      const id = volumeIdFor('clone', nodeTagOf(two.id));
      await mounted(two, id, async (directory) => {
        t.true((await readFile(join(directory, 'file'))).equals(content));
        t.false((await readdir(directory)).includes('later'));
      });
      for (const node of lab.nodes) {
        const temporary = join(node.directory, 'pool', 'reflink', 'tmp');
        await until(
          `nothing is left on ${node.id}`,
          async () => (await readdir(temporary)).length === 0,
        );
      }
      t.deepEqual((await controller.ListSnapshots({}, limit())).entries, []);
    },
  ),
);
