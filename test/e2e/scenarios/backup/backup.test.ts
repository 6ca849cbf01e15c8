/**
 * Backups by restic into an object store, as Velero's data mover and VolSync take and restore them. With a controller, each pod that
 * moves data runs on another node than its source. Without one, it runs on the node of the source.
 */
import { join } from 'node:path';
import test from 'ava';
import { nodePaths } from '../../cluster/layout.ts';
import type { ClusterNode } from '../../cluster/node.ts';
import { eventually } from '../../eventually.ts';
import { textAt } from '../../kube/api.ts';
import { allowModeChange, handOver, Mover, rebind, startStore } from '../../kube/backup-tools.ts';
import { classes } from '../../kube/chart.ts';
import { nodeOfClaim, threeNodes } from '../../kube/nodes.ts';
import { api, isBound, Scenario } from '../../kube/scenario.ts';
import { hasController } from '../../kube/shape.ts';
import {
  audience,
  endChangedBlocks,
  findServer,
  handleOf,
  makeAccount,
  serveChangedBlocks,
  sumOf,
  tokenOf,
} from '../../snapshot-metadata/cluster.ts';
import { methods, readRanges } from '../../snapshot-metadata/protocol.ts';

const isCentral = await hasController();
const nodes = threeNodes();
const [home] = nodes;
/** Where movers run. */
const [away, further] = isCentral ? [nodes[1], nodes[2]] : [home, home];
const storageClass = classes.reflink;
const size = '320Mi';
const claimOptions = { storageClass, size } as const;
/** Of contents that no snapshot-controller has made, without a controller of the driver. */
const label = isCentral ? undefined : home.name;
const volumeIds = new Set<string>();

test.before(async () => {
  if (isCentral) await serveChangedBlocks();
});
test.after.always(async () => {
  if (isCentral) await endChangedBlocks(true);
});

const makeFiles = `mkdir -p /data/files && cd /data/files
for i in $(seq 40); do head -c 1000000 /dev/urandom >f$i || exit 1; done`;
const changeFiles = `cd /data/files && head -c 1000000 /dev/urandom >f7 && rm -f f9 && echo new >added`;
const checksum = (directory: string): string =>
  `cd ${directory}/files && sha256sum $(ls) | sha256sum | cut -d' ' -f1`;

/** A claim that an application on the first node uses, with some files. */
async function startApplication(scenario: Scenario): Promise<void> {
  await scenario.claim('data', claimOptions);
  await scenario.readyPod(
    'app',
    { claims: { '/data': 'data' }, node: home.name, script: `${makeFiles}\nsync` },
    240_000,
  );
  await note(scenario, 'data');
}

async function note(scenario: Scenario, claim: string): Promise<void> {
  volumeIds.add(await scenario.volumeId(claim));
}

async function requireNode(scenario: Scenario, claim: string, node: ClusterNode): Promise<void> {
  const found = await nodeOfClaim(scenario, claim);
  if (found !== node) throw new Error(`${claim} is on ${found.name}, not ${node.name}`);
}

test.serial(
  "files, as Velero's data mover: a snapshot is handed over to another namespace, read on another node, and restored on a third",
  async (t) => {
    const app = await Scenario.begin(t, 'velero-app');
    const tool = await Scenario.begin(t, 'velero');
    await startApplication(app);
    const repository = `${await startStore(tool)}/velero`;
    const sums: string[] = [];
    const summaries = [];
    for (const round of ['one', 'two']) {
      sums.push(await app.sh('app', checksum('/data')));
      await app.snapshot(round, 'data');
      // The application goes on: what is backed up is the snapshot.
      await app.sh('app', `${changeFiles} && sync`);
      await handOver(app, tool, round, { label, sourceVolumeMode: 'Filesystem' });
      const source = { kind: 'VolumeSnapshot', name: round } as const;
      await tool.claim(round, { ...claimOptions, source });
      const claims = { '/volume': round };
      const mover = await Mover.start(tool, round, { repository, claims, node: away });
      await note(tool, round);
      await requireNode(tool, round, away);
      t.is(await mover.sh(checksum('/volume')), sums.at(-1) ?? '');
      if (round === 'one') await mover.createRepository();
      summaries.push(await mover.backUp('/volume'));
      await mover.end();
      await tool.delete('PersistentVolumeClaim', round);
      const handle = await handleOf(tool, round);
      await tool.delete('VolumeSnapshot', round);
      await api.untilGone('VolumeSnapshotContent', '', `velero-${round}`);
      t.log(`${round}: ${JSON.stringify(summaries.at(-1))}, ${handle} is deleted`);
    }
    const [full, incremental] = summaries;
    t.true((full?.data_added ?? 0) > 40_000_000);
    t.true((incremental?.data_added ?? 0) < 2_500_000, 'one file of forty');
    t.is(incremental?.files_unmodified, 38);

    await tool.claim('restore', claimOptions);
    const claims = { '/volume': 'restore' };
    const mover = await Mover.start(tool, 'restore', { repository, claims, node: further });
    await note(tool, 'restore');
    await mover.restore('/volume');
    await mover.checkRepository();
    await mover.end();
    const target = { scenario: app, claim: 'restored', options: claimOptions };
    await rebind(tool, 'restore', target);
    // The scheduler knows from the volume where the pod must run.
    const pod = await app.readyPod('restored', { claims: { '/data': 'restored' } });
    t.is(textAt(pod, 'spec.nodeName'), further.name);
    t.is(await app.sh('restored', checksum('/data')), sums[1] ?? '');
  },
);

test.serial(
  'files, as VolSync with restic: a clone of a claim in use is read on another node, and restored into a new claim on a third',
  async (t) => {
    const app = await Scenario.begin(t, 'volsync');
    await startApplication(app);
    const repository = `${await startStore(app)}/volsync`;
    const before = await app.sh('app', checksum('/data'));
    const source = { kind: 'PersistentVolumeClaim', name: 'data' } as const;
    await app.claim('volsync-src', { ...claimOptions, source });
    const claims = { '/data': 'volsync-src' };
    const mover = await Mover.start(app, 'volsync-src', { repository, claims, node: away });
    await note(app, 'volsync-src');
    await requireNode(app, 'volsync-src', away);
    await app.sh('app', `${changeFiles} && sync`);
    await mover.createRepository();
    await mover.backUp('/data');
    await mover.end();
    await app.delete('PersistentVolumeClaim', 'volsync-src');

    await app.claim('volsync-dest', claimOptions);
    const into = { '/data': 'volsync-dest' };
    const restorer = await Mover.start(app, 'dest', { repository, claims: into, node: further });
    await note(app, 'volsync-dest');
    await restorer.restore('/data');
    await restorer.end();
    // Its result is a snapshot, from which the claim of the application is made.
    await app.snapshot('latest', 'volsync-dest');
    const latest = { kind: 'VolumeSnapshot', name: 'latest' } as const;
    await app.claim('restored', { ...claimOptions, source: latest });
    // Without a controller, the scheduler may choose another node than that of the snapshot for minutes.
    const anywhere = isCentral ? {} : { node: home.name };
    await app.readyPod('restored', { claims: { '/data': 'restored' }, ...anywhere }, 240_000);
    await note(app, 'restored');
    t.is(await app.sh('restored', checksum('/data')), before);
    t.not(await app.sh('app', checksum('/data')), before);
  },
);

test.serial(
  'blocks: the allocated blocks of a filesystem, then the changed ones alone, restored as a block volume that becomes the filesystem again',
  async (t) => {
    if (!isCentral) {
      t.pass('without a controller, changed blocks are not served in Kubernetes');
      return;
    }
    const app = await Scenario.begin(t, 'blocks-app');
    const tool = await Scenario.begin(t, 'blocks');
    await startApplication(app);
    const repository = `${await startStore(tool)}/blocks`;
    await makeAccount(tool, 'backup', true);
    const server = await findServer();
    const security_token = await tokenOf(tool, 'backup', audience);
    const request = { security_token, namespace: tool.namespace, starting_offset: 0n };
    const asBlock = { ...claimOptions, block: true } as const;

    await app.snapshot('one', 'data');
    const whole = { sourceVolumeMode: 'Filesystem', annotations: allowModeChange } as const;
    await handOver(app, tool, 'one', whole);
    const source = { kind: 'VolumeSnapshot', name: 'one' } as const;
    await tool.claim('one', { ...asBlock, source });
    const disk = (name: string) => ({ repository, claims: { '/dev/disk': name }, block: true });
    const full = await Mover.start(tool, 'one', { ...disk('one'), node: away });
    await note(tool, 'one');
    const allocated = await readRanges(server, methods.GetMetadataAllocated, {
      ...request,
      snapshot_name: 'one',
      max_results: 0,
    });
    await full.createRepository();
    const first = await full.backUpRanges('/dev/disk', 'full', allocated.ranges);
    t.is(BigInt(first.total_bytes_processed), sumOf(allocated.ranges));
    await full.end();
    await tool.delete('PersistentVolumeClaim', 'one');

    // The first snapshot is kept: without it there is nothing to compare the second one with.
    await app.sh('app', `${changeFiles} && sync`);
    const expected = await app.sh('app', checksum('/data'));
    await app.snapshot('two', 'data');
    await handOver(app, tool, 'two', whole);
    await tool.claim('two', { ...asBlock, source: { ...source, name: 'two' } });
    const next = await Mover.start(tool, 'two', { ...disk('two'), node: further });
    await note(tool, 'two');
    await requireNode(tool, 'two', further);
    const changed = await readRanges(server, methods.GetMetadataDelta, {
      ...request,
      base_snapshot_id: await handleOf(tool, 'one'),
      target_snapshot_name: 'two',
      max_results: 0,
    });
    const second = await next.backUpRanges('/dev/disk', 'changed', changed.ranges);
    t.log(`allocated ${sumOf(allocated.ranges)}, changed ${sumOf(changed.ranges)}`);
    t.is(BigInt(second.total_bytes_processed), sumOf(changed.ranges));
    t.true(second.total_bytes_processed < first.total_bytes_processed / 8);
    const hash = 'sha256sum /dev/disk | cut -d" " -f1';
    const bytes = await next.sh(hash);
    await next.end();
    for (const name of ['one', 'two']) {
      if (name === 'two') await tool.delete('PersistentVolumeClaim', 'two');
      await tool.delete('VolumeSnapshot', name);
      await api.untilGone('VolumeSnapshotContent', '', `blocks-${name}`);
    }

    await tool.claim('restore', asBlock);
    const mover = await Mover.start(tool, 'restore', { ...disk('restore'), node: away });
    await note(tool, 'restore');
    await mover.restoreRanges('/dev/disk', 'full', allocated.ranges);
    t.not(await mover.sh(hash), bytes);
    await mover.restoreRanges('/dev/disk', 'changed', changed.ranges);
    t.is(await mover.sh(hash), bytes);
    await mover.checkRepository();
    await mover.end();
    await rebind(tool, 'restore', { scenario: app, claim: 'restored', options: claimOptions });
    await app.readyPod('restored', { claims: { '/data': 'restored' } }, 180_000);
    t.is(await app.sh('restored', checksum('/data')), expected);
    await requireNode(app, 'restored', away);
  },
);

test.serial(
  'Kubernetes refuses another mode unless the content of the snapshot allows it',
  async (t) => {
    const app = await Scenario.begin(t, 'mode-app');
    const tool = await Scenario.begin(t, 'mode');
    await startApplication(app);
    await app.snapshot('one', 'data');
    await handOver(app, tool, 'one', { label, sourceVolumeMode: 'Filesystem' });
    const source = { kind: 'VolumeSnapshot', name: 'one' } as const;
    await tool.claim('block', { ...claimOptions, block: true, source });
    await tool.pod('reader', { claims: { '/dev/disk': 'block' }, block: true, node: away.name });
    t.regex(
      await tool.event('block', /ProvisioningFailed/, 120_000),
      /modifies the mode of the source volume but does not have permission/,
    );
    await api.patch('VolumeSnapshotContent', '', 'mode-one', {
      metadata: { annotations: allowModeChange },
    });
    await tool.untilReady('reader', 240_000);
    await note(tool, 'block');
  },
);

/** What is in an area of a pool on a node. */
async function entriesIn(node: ClusterNode, area: string): Promise<readonly string[]> {
  const pools = ['default', 'reflink'].map((pool) => join(nodePaths.pools, pool, area));
  const listed = await node.run('find', ...pools, '-mindepth', '1', '-maxdepth', '1');
  return listed.split('\n').filter((line) => line !== '');
}

test.serial('nothing is left of backups and restores whose namespaces are deleted', async (t) => {
  const isOurs = (path: string): boolean => [...volumeIds].some((id) => path.includes(id));
  for (const namespace of [
    'velero',
    'velero-app',
    'volsync',
    'blocks',
    'blocks-app',
    'mode',
    'mode-app',
  ])
    await api.untilGone('Namespace', '', namespace, 180_000);
  for (const node of nodes) {
    await eventually(
      `the end of what is left on ${node.name}`,
      async () => {
        const left = [
          ...(await entriesIn(node, 'volumes')).filter(isOurs),
          ...(await entriesIn(node, 'tmp')),
          ...(await entriesIn(node, 'snapshots')),
        ];
        if (left.length > 0) throw new Error(left.join(', '));
        return true;
      },
      { timeoutMs: 180_000 },
    );
    for (const id of volumeIds) t.deepEqual(await node.loopDevices(id), []);
  }
  t.true(volumeIds.size >= 8);
  t.is(
    (await api.list('PersistentVolume')).filter(
      (one) => isOurs(textAt(one, 'spec.csi.volumeHandle') ?? '') && isBound(one),
    ).length,
    0,
  );
});
