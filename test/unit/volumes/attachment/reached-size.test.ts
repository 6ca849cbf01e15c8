import { mkdir, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { VolumeError } from '../../../../src/errors.ts';
import { MiB } from '../../../../src/units.ts';
import type { FaultPoint } from '../../../../src/volumes/engine/fault-points.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { RestartableDriver } from '../../../helpers/restartable-driver.ts';
import { call, capability, volumeInput } from '../../../helpers/scratch-node.ts';

const range = (mebibytes: bigint) => ({ requiredBytes: mebibytes * MiB, limitBytes: 0n });

async function nodeWith(t: ExecutionContext, kind: 'block' | 'mount') {
  const node = await fakeNode(t, { reflink: true });
  let at: FaultPoint | undefined;
  const open = () =>
    node.open([node.settings('a')], {
      reached: (point) => {
        if (point === at) throw new Error('killed here');
      },
    });
  const driver = new RestartableDriver(await open());
  const input = volumeInput('v', { sizeBytes: 16n * MiB, kind });
  const volumeId = (await driver.volumes.createVolume(call(), input)).record.id;
  const stagingTargetPath = join(node.directory, 'staging');
  await mkdir(stagingTargetPath);
  const directory = driver.domain.pools.named('a').pathOf('volumes', volumeId);
  return {
    node,
    volumeId,
    stagingTargetPath,
    image: join(directory, 'disk.img'),
    recordPath: join(directory, 'volume.json'),
    volumes: () => driver.volumes,
    asked: { volumeId, stagingTargetPath, capability: capability({ kind }) },
    failAt: (point: FaultPoint | undefined) => {
      at = point;
    },
    restart: () => driver.reopen(open),
    reachedBytes: async () =>
      (
        JSON.parse(await readFile(join(directory, 'volume.json'), 'utf8')) as Record<
          string,
          unknown
        >
      )['reachedBytes'],
  };
}

for (const kind of ['block', 'mount'] as const) {
  test(`${kind}: every call refuses a truncated image and names the remedy, and health reports data loss`, async (t) => {
    const { volumeId, volumes, image, asked } = await nodeWith(t, kind);
    await truncate(image, Number(12n * MiB));
    const calls: Record<string, () => Promise<unknown>> = {
      stage: () => volumes().stageVolume(call(), asked),
      expand: () => volumes().expandVolume(call(), { volumeId, range: range(32n) }),
      'expand to the present size': () =>
        volumes().expandVolume(call(), { volumeId, range: range(16n) }),
      snapshot: () =>
        volumes().createSnapshot(call(), {
          name: 's',
          sourceVolumeId: volumeId,
          settings: { freeze: false },
          parameters: {},
        }),
      clone: () =>
        volumes().createVolume(
          call(),
          volumeInput('c', { kind, source: { kind: 'volume', id: volumeId }, isFsTypeUnset: true }),
        ),
    };
    for (const [name, made] of Object.entries(calls)) {
      const error = await t.throwsAsync(made(), { instanceOf: VolumeError }, name);
      t.is(error?.reason, 'wrong-state', name);
      t.regex(error?.message ?? '', /was truncated to 12 MiB.*truncate --size=16777216/, name);
    }
    const conditions = await volumes().volumeHealth(volumeId);
    t.like(conditions[0], { status: 'DATA_LOSS', reason: 'ImageShort' });
    // The remedy that gives up the lost data.
    await truncate(image, Number(16n * MiB));
    await volumes().stageVolume(call(), asked);
  });

  for (const point of ['expand:promised', 'expand:image-grown'] as const) {
    test(`${kind}: a growth that was interrupted at ${point} is completed by the next stage`, async (t) => {
      const { volumeId, volumes, asked, failAt, restart, reachedBytes } = await nodeWith(t, kind);
      failAt(point);
      await t.throwsAsync(volumes().expandVolume(call(), { volumeId, range: range(32n) }));
      t.is(await reachedBytes(), String(16n * MiB));
      failAt(undefined);
      await restart();
      t.deepEqual(await volumes().volumeHealth(volumeId), []);
      await volumes().stageVolume(call(), asked);
      t.is(await reachedBytes(), String(32n * MiB));
    });
  }

  test(`${kind}: after a growth, an image must have the new size`, async (t) => {
    const { volumeId, volumes, asked, image } = await nodeWith(t, kind);
    await volumes().expandVolume(call(), { volumeId, range: range(32n) });
    await truncate(image, Number(24n * MiB));
    t.is(await reasonOf(volumes().stageVolume(call(), asked)), 'wrong-state');
  });
}

test('a staged block volume whose image is truncated is not published', async (t) => {
  const { volumeId, volumes, asked, image, node } = await nodeWith(t, 'block');
  await volumes().stageVolume(call(), asked);
  await truncate(image, Number(12n * MiB));
  const published = volumes().publishVolume(call(), {
    ...asked,
    volumeId,
    targetPath: join(node.directory, 'target'),
    readOnly: false,
  });
  t.is(await reasonOf(published), 'wrong-state');
  t.is(await reasonOf(volumes().stageVolume(call(), asked)), 'wrong-state');
});

test('a record of an earlier version has no reached size: the next stage records it', async (t) => {
  const { volumes, asked, recordPath, restart, reachedBytes } = await nodeWith(t, 'block');
  const { reachedBytes: _, ...old } = JSON.parse(await readFile(recordPath, 'utf8')) as {
    reachedBytes: string;
  };
  await writeFile(recordPath, JSON.stringify(old));
  await restart();
  await volumes().stageVolume(call(), asked);
  t.is(await reachedBytes(), String(16n * MiB));
});

test('a block volume of an earlier version whose image is too small is refused, because an interrupted growth cannot be told from a loss', async (t) => {
  const { volumeId, volumes, asked, recordPath, restart, image } = await nodeWith(t, 'block');
  const { reachedBytes: _, ...old } = JSON.parse(await readFile(recordPath, 'utf8')) as {
    reachedBytes: string;
  };
  await writeFile(recordPath, JSON.stringify(old));
  await truncate(image, Number(8n * MiB));
  await restart();
  await t.throwsAsync(volumes().stageVolume(call(), asked), {
    message: /was truncated to 8 MiB .*, it should have 16 MiB; .*truncate --size=16777216/,
  });
  t.like((await volumes().volumeHealth(volumeId))[0], { reason: 'ImageShort' });
  await truncate(image, Number(16n * MiB));
  await volumes().stageVolume(call(), asked);
  t.deepEqual(await volumes().volumeHealth(volumeId), []);
});
