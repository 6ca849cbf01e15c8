import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { VolumeError } from '../../../../src/errors.ts';
import { MiB } from '../../../../src/units.ts';
import type { FaultPoint } from '../../../../src/volumes/engine/fault-points.ts';
import type { VolumeSource } from '../../../../src/volumes/model.ts';
import type { OpenedVolumes } from '../../../../src/volumes/open.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, capability, volumeInput } from '../../../helpers/scratch-node.ts';

/** A volume `v`, its id, and its staging and target paths. */
interface Stage {
  readonly volumes: OpenedVolumes['volumes'];
  readonly volumeId: string;
  readonly stagingTargetPath: string;
  readonly targetPath: string;
}

interface Call {
  readonly run: (stage: Stage) => Promise<unknown>;
  /** A fault point in the middle of the call. */
  readonly point: FaultPoint;
  /** The state of the volume that the call needs. */
  readonly needs: 'nothing' | 'made' | 'staged' | 'published';
  /** The call only reads the volume, so other reading calls are allowed meanwhile. */
  readonly reads?: true;
}

const sizeBytes = 64n * MiB;
const range = { requiredBytes: 2n * sizeBytes, limitBytes: 0n };
const settings = { freeze: true };
const noParameters = { settings, parameters: {} };
const shared = () => capability({ accessMode: 'SINGLE_NODE_MULTI_WRITER' });

async function clone({ volumes, volumeId }: Stage): Promise<unknown> {
  const source: VolumeSource = { kind: 'volume', id: volumeId };
  return volumes.createVolume(call(), volumeInput('clone', { sizeBytes, source }));
}

const calls = {
  create: {
    run: ({ volumes }) => volumes.createVolume(call(), volumeInput('v', { sizeBytes })),
    point: 'new:image-made',
    needs: 'nothing',
  },
  'create with other arguments': {
    run: ({ volumes }) => volumes.createVolume(call(), volumeInput('v', { kind: 'block' })),
    point: 'new:image-made',
    needs: 'nothing',
  },
  delete: {
    run: ({ volumes, volumeId }) => volumes.deleteVolume(call(), volumeId),
    point: 'delete:detached',
    needs: 'made',
  },
  stage: {
    run: ({ volumes, ...at }) => volumes.stageVolume(call(), { ...at, capability: shared() }),
    point: 'stage:attached',
    needs: 'made',
  },
  unstage: {
    run: ({ volumes, ...at }) => volumes.unstageVolume(call(), at),
    point: 'unstage:unmounted',
    needs: 'staged',
  },
  publish: {
    run: ({ volumes, ...at }) =>
      volumes.publishVolume(call(), { ...at, capability: shared(), readOnly: false }),
    point: 'publish:recorded',
    needs: 'staged',
  },
  unpublish: {
    run: ({ volumes, ...at }) => volumes.unpublishVolume(call(), at),
    point: 'unpublish:unmounted',
    needs: 'published',
  },
  expand: {
    run: ({ volumes, volumeId }) => volumes.expandVolume(call(), { volumeId, range }),
    point: 'expand:promised',
    needs: 'made',
  },
  'expand on the node': {
    run: ({ volumes, volumeId, stagingTargetPath: volumePath }) =>
      volumes.nodeExpandVolume(call(), { volumeId, volumePath, range }),
    point: 'expand:device-grown',
    needs: 'staged',
  },
  snapshot: {
    run: ({ volumes, volumeId: sourceVolumeId }) =>
      volumes.createSnapshot(call(), { name: 's', sourceVolumeId, ...noParameters }),
    point: 'capture:taken',
    needs: 'made',
    reads: true,
  },
  group: {
    run: ({ volumes, volumeId }) =>
      volumes.createGroupSnapshot(call(), {
        name: 'g',
        sourceVolumeIds: [volumeId],
        ...noParameters,
      }),
    point: 'capture:taken',
    needs: 'made',
    reads: true,
  },
  clone: { run: clone, point: 'restore:taken', needs: 'made', reads: true },
} as const satisfies Readonly<Record<string, Call>>;

const order = ['made', 'staged', 'published'] as const;
const toNeed = { made: calls.create, staged: calls.stage, published: calls.publish };

/** The node, its volume in the state that the call needs, and a stop at the call's fault point. */
async function prepare(t: ExecutionContext, { needs, point }: Call) {
  const node = await fakeNode(t);
  let arm: FaultPoint | undefined;
  let resume = (): void => undefined;
  let stopped = (): void => undefined;
  const isStopped = new Promise<void>((resolve) => {
    stopped = resolve;
  });
  const opened = await node.open([node.settings('a')], {
    reached: async (passed) => {
      if (passed !== arm) return;
      arm = undefined;
      stopped();
      await new Promise<void>((resolve) => {
        resume = resolve;
      });
    },
  });
  const stage: Stage = {
    volumes: opened.volumes,
    volumeId: `v.${opened.domain.settings.nodeTag}`,
    stagingTargetPath: join(node.directory, 'staging'),
    targetPath: join(node.directory, 'target'),
  };
  await mkdir(stage.stagingTargetPath);
  if (needs !== 'nothing') {
    for (const step of order.slice(0, order.indexOf(needs) + 1)) await toNeed[step].run(stage);
  }
  arm = point;
  return { stage, isStopped, resume: () => resume() };
}

for (const [name, first] of Object.entries<Call>(calls)) {
  test(`while ${name} is in progress for a volume, every other call that changes it is refused as busy`, async (t) => {
    const { stage, isStopped, resume } = await prepare(t, first);
    const running = first.run(stage);
    await Promise.race([isStopped, running]);
    for (const [otherName, other] of Object.entries<Call>(calls)) {
      // The same call joins the running one, and reading calls do not exclude each other.
      if (otherName === name || (first.reads === true && other.reads === true)) continue;
      // Nothing exists yet that could be staged or captured.
      if (first.needs === 'nothing' && other.needs !== 'nothing' && otherName !== 'delete')
        continue;
      t.is(await reasonOf(other.run(stage)), 'busy', otherName);
    }
    resume();
    // A delete in between would have stopped the create.
    await (first.needs === 'nothing' ? running.catch(() => undefined) : running);
  });
}

for (const name of ['stage', 'unstage', 'publish', 'unpublish'] as const) {
  test(`while ${name} is in progress at a path, mounting another volume there is refused as busy`, async (t) => {
    const { stage, isStopped, resume } = await prepare(t, calls[name]);
    const { volumes, stagingTargetPath, targetPath } = stage;
    const { record } = await volumes.createVolume(call(), volumeInput('w', { sizeBytes }));
    const other = {
      volumes,
      volumeId: record.id,
      stagingTargetPath: `${stagingTargetPath}-w`,
      targetPath,
    };
    await mkdir(other.stagingTargetPath);
    const isTarget = name === 'publish' || name === 'unpublish';
    if (isTarget) {
      await volumes.stageVolume(call(), { ...other, capability: shared() });
    }
    const running = calls[name].run(stage);
    await Promise.race([isStopped, running]);
    const refused = isTarget
      ? calls.publish.run(other)
      : calls.stage.run({ ...other, stagingTargetPath });
    const error = await t.throwsAsync(refused, { instanceOf: VolumeError });
    t.is(error.reason, 'busy');
    t.true(error.message.includes(isTarget ? targetPath : stagingTargetPath));
    resume();
    await running;
  });
}
