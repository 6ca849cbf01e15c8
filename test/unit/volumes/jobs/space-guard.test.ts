import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { pino } from 'pino';
import { VolumeError } from '../../../../src/errors.ts';
import { KernelError } from '../../../../src/host/errors.ts';
import { GiB, MiB } from '../../../../src/units.ts';
import { findMountedThinVolumes } from '../../../../src/volumes/jobs/mounted-thin-volumes.ts';
import type { OpenDeps } from '../../../../src/volumes/open.ts';
import { fakeNode } from '../../../helpers/fake-node.ts';
import {
  call,
  capability,
  plainSettings,
  testSettings,
  volumeInput,
} from '../../../helpers/scratch-node.ts';
import { until } from '../../../helpers/until.ts';

const totalBytes = 8n * GiB;
/** Free bytes below the freeze watermark, and above the trim watermark. */
const [tooFew, enough] = [128n * MiB, 4n * GiB];
/** Free bytes below the trim watermark, and above the freeze watermark. */
const few = 384n * MiB;

/** A node with a staged volume in an overcommitted pool, whose free bytes the test sets. */
async function guardedNode(t: ExecutionContext, settings: Partial<OpenDeps['settings']> = {}) {
  const node = await fakeNode(t);
  let freeBytes = enough;
  const lines: { readonly msg: string }[] = [];
  const log = pino(
    { level: 'debug' },
    { write: (line: string) => lines.push(JSON.parse(line) as { msg: string }) },
  );
  const { files } = node.host;
  const capacity = files.capacity.bind(files);
  files.capacity = async (path) => ({ ...(await capacity(path)), totalBytes, freeBytes });
  const { volumes, domain, ...opened } = await node.open(
    [node.settings('a', { overcommitPerMille: 4000 })],
    { settings: { ...testSettings, ...settings }, log },
  );
  const { record } = await volumes.createVolume(call(), volumeInput('v'));
  const at = {
    volumeId: record.id,
    stagingTargetPath: join(node.directory, 'staging'),
    targetPath: join(node.directory, 'target'),
  };
  await mkdir(at.stagingTargetPath);
  const asked = { ...at, capability: capability(), readOnly: false };
  await volumes.stageVolume(call(), asked);
  await volumes.publishVolume(call(), asked);
  const isFrozen = (): boolean =>
    [...node.host.kernel.devices.values()].some(({ live }) => live?.frozen === true);
  return {
    node,
    volumes,
    domain,
    at,
    log: lines,
    isFrozen,
    close: () => opened.close(100),
    leave: (bytes: bigint) => {
      freeBytes = bytes;
    },
    untilFrozen: () => until('it is frozen', isFrozen, 20_000),
    untilThawed: () => until('it is thawed', () => !isFrozen(), 20_000),
  };
}

test('below the freeze watermark a volume is frozen, and thawed when there is free space again', async (t) => {
  const { leave, untilFrozen, untilThawed, domain, at } = await guardedNode(t);
  leave(tooFew);
  await untilFrozen();
  t.not(domain.guard.frozenSince(at.volumeId), undefined);
  leave(enough);
  await untilThawed();
  t.is(domain.guard.frozenSince(at.volumeId), undefined);
});

test('between the watermarks a volume is trimmed, not frozen', async (t) => {
  const { node, leave, isFrozen } = await guardedNode(t);
  leave(few);
  await until('it is trimmed', () => node.host.calls.includes('mounts.trim'));
  t.false(isFrozen());
});

test('a volume that a call works on is frozen only after the call has ended', async (t) => {
  const { node, leave, isFrozen, untilFrozen, domain, at } = await guardedNode(t);
  const release = domain.operations.locks.acquire(
    { exclusive: [`volume:${at.volumeId}`] },
    'a test',
  );
  leave(tooFew);
  const looks = () => node.host.calls.filter((name) => name === 'files.capacity').length;
  const before = looks();
  await until('the guard has checked', () => looks() > before + 3);
  t.false(isFrozen());
  release();
  await untilFrozen();
});

test('an inline volume that a call works on is frozen only after the call has ended, and not trimmed', async (t) => {
  const { node, leave, volumes, domain, at } = await guardedNode(t);
  // Calls lock it by the id that the kubelet chose.
  const volumeId = 'csi-0123';
  const targetPath = join(node.directory, 'pod');
  await volumes.publishVolume(call(), {
    volumeId,
    targetPath,
    stagingTargetPath: '',
    capability: capability(),
    readOnly: false,
    ephemeral: { sizeBytes: 64n * MiB, settings: plainSettings },
  });
  const pool = domain.pools.named('a');
  const mounted = await findMountedThinVolumes(node.host, pool, await node.host.mounts.list());
  const inline = mounted.find(({ area }) => area === 'ephemeral');
  if (inline === undefined) throw new Error('the inline volume is not mounted');
  const isFrozen = (): boolean =>
    node.host.kernel.devices.get(inline.device.number)?.live?.frozen === true;
  const release = domain.operations.locks.acquire({ exclusive: [`volume:${volumeId}`] }, 'a test');
  t.is((await domain.trims.trim(pool, inline, 'guard')).result, 'interrupted');
  leave(tooFew);
  await until('the other one is frozen', () => domain.guard.frozenSince(at.volumeId) !== undefined);
  const looks = () => node.host.calls.filter((name) => name === 'files.capacity').length;
  const before = looks();
  await until('the guard has checked again', () => looks() > before + 3);
  t.false(isFrozen());
  release();
  await until('it is frozen', isFrozen, 20_000);
  leave(enough);
});

/** Waits until the guard has checked the pool's free space a few times more. */
async function untilLooked({ node }: Awaited<ReturnType<typeof guardedNode>>): Promise<void> {
  const looks = () => node.host.calls.filter((one) => one === 'files.capacity').length;
  const before = looks();
  await until('the guard has checked again', () => looks() > before + 3, 20_000);
}

function thawsOf({ log }: Awaited<ReturnType<typeof guardedNode>>): number {
  return log.filter(({ msg }) => msg === 'a volume was thawed').length;
}

test('expand ends a freeze, and a volume that is still mounted is frozen again afterwards', async (t) => {
  const on = await guardedNode(t);
  on.leave(tooFew);
  await on.untilFrozen();
  await on.volumes.nodeExpandVolume(call(), {
    volumeId: on.at.volumeId,
    volumePath: on.at.stagingTargetPath,
    range: { requiredBytes: 1n, limitBytes: 0n },
  });
  t.is(thawsOf(on), 1);
  await on.untilFrozen();
  t.false(on.domain.guard.isExpired(on.at.volumeId), 'the time limit of the freeze starts again');
});

test('unpublish does not thaw a volume that is still staged', async (t) => {
  const on = await guardedNode(t);
  on.leave(tooFew);
  await on.untilFrozen();
  await on.volumes.unpublishVolume(call(), on.at);
  t.is(await on.node.host.mounts.at(on.at.targetPath), undefined);
  t.true(on.isFrozen());
  t.is(thawsOf(on), 0);
});

test('a frozen volume that other software unmounted is thawed, so that its device is free', async (t) => {
  const on = await guardedNode(t);
  await on.volumes.unpublishVolume(call(), on.at);
  on.leave(tooFew);
  await on.untilFrozen();
  await on.node.host.mounts.unmount(on.at.stagingTargetPath, { keepFrozen: true });
  await on.untilThawed();
  await on.volumes.unstageVolume(call(), on.at);
  t.deepEqual(await on.node.host.loops.list(), []);
});

test('an unconfirmed thaw of an unmounted volume is repeated without its mount', async (t) => {
  const on = await guardedNode(t);
  const { freezer } = on.node.host;
  const freeze = freezer.freeze.bind(freezer);
  freezer.freeze = async (...asked) => {
    const made = await freeze(...asked);
    return {
      ...made,
      thaw: () => Promise.reject(new KernelError('freeze', 'ECHILD', 'a test')),
    };
  };
  await on.volumes.unpublishVolume(call(), on.at);
  on.leave(tooFew);
  await on.untilFrozen();
  await on.volumes.unstageVolume(call(), on.at);
  t.deepEqual(await on.node.host.loops.list(), []);
});

for (const [name, end, path] of [
  ['unpublish', ({ volumes, at }) => volumes.unpublishVolume(call(), at), 'targetPath'],
  ['unstage', ({ volumes, at }) => volumes.unstageVolume(call(), at), 'stagingTargetPath'],
] as const satisfies readonly (readonly [
  string,
  (on: Awaited<ReturnType<typeof guardedNode>>) => Promise<unknown>,
  'targetPath' | 'stagingTargetPath',
])[]) {
  test(`${name} of a frozen volume that a process uses thaws nothing and names the process`, async (t) => {
    const on = await guardedNode(t);
    if (name === 'unstage') await on.volumes.unpublishVolume(call(), on.at);
    on.leave(tooFew);
    await on.untilFrozen();
    const release = await on.node.host.otherSoftware.openFile(on.at[path]);
    const error = await t.throwsAsync(end(on), { instanceOf: VolumeError });
    t.is(error?.reason, 'wrong-state');
    t.regex(error?.message ?? '', /in use by holder \(4711\)/);
    t.true(on.isFrozen());
    t.is(thawsOf(on), 0, 'its writers waited all the time');
    await release();
    await end(on);
  });

  test(`a volume stays guarded after ${name} that fails in the kernel`, async (t) => {
    const on = await guardedNode(t);
    if (name === 'unstage') await on.volumes.unpublishVolume(call(), on.at);
    on.leave(tooFew);
    await on.untilFrozen();
    on.node.host.failNext('mounts.unmount', new KernelError('umount', 'EBUSY', 'a test'));
    await t.throwsAsync(end(on), { instanceOf: VolumeError });
    t.true(on.isFrozen());
    t.is(thawsOf(on), 0, 'its writers waited all the time');
    t.false(on.domain.guard.isExpired(on.at.volumeId));
    const conditions = await on.volumes.volumeHealth(on.at.volumeId);
    t.true(
      conditions.some(({ reason }) => reason === 'FrozenForRoom'),
      JSON.stringify(conditions),
    );
    await untilLooked(on);
    t.true(on.isFrozen());
  });
}

test('a volume that other software thaws is frozen again', async (t) => {
  const on = await guardedNode(t);
  on.leave(tooFew);
  await on.untilFrozen();
  const [device] = await on.node.host.loops.list();
  if (device === undefined) throw new Error('no device');
  t.true(await on.node.host.mounts.thaw(on.at.stagingTargetPath, device));
  await on.untilFrozen();
  on.leave(enough);
  await on.untilThawed();
});

test('a volume mounted while the pool is nearly full is frozen too', async (t) => {
  const on = await guardedNode(t);
  await on.volumes.unpublishVolume(call(), on.at);
  await on.volumes.unstageVolume(call(), on.at);
  on.leave(tooFew);
  await untilLooked(on);
  t.false(on.isFrozen());
  await on.volumes.stageVolume(call(), { ...on.at, capability: capability() });
  await on.untilFrozen();
});

test('after a check that fails the guard checks again', async (t) => {
  const { node, leave, untilFrozen, isFrozen } = await guardedNode(t);
  node.host.failNext('files.capacity', new KernelError('statfs', 'EIO', 'a test'));
  leave(tooFew);
  await untilFrozen();
  t.true(isFrozen());
});

test('a thick volume is not guarded, since it allocates no more blocks', async (t) => {
  const { node, volumes, domain, at } = await guardedNode(t);
  const settings = { ...plainSettings, provisioning: 'thick', trim: 'off' } as const;
  const input = volumeInput('thick', { sizeBytes: 16n * MiB, settings });
  const { record } = await volumes.createVolume(call(), input);
  const stagingTargetPath = join(node.directory, 'thick');
  await mkdir(stagingTargetPath);
  const asked = { volumeId: record.id, stagingTargetPath, capability: capability() };
  await volumes.stageVolume(call(), asked);
  const mounted = await findMountedThinVolumes(
    node.host,
    domain.pools.named('a'),
    await node.host.mounts.list(),
  );
  t.deepEqual(
    mounted.map(({ record: { id } }) => id),
    [at.volumeId],
  );
});

test('unstage ends a freeze', async (t) => {
  const { node, volumes, at, leave, untilFrozen, domain } = await guardedNode(t);
  await volumes.unpublishVolume(call(), at);
  leave(tooFew);
  await untilFrozen();
  await volumes.unstageVolume(call(), at);
  t.is(domain.guard.frozenSince(at.volumeId), undefined);
  t.is(domain.guard.frozenCount, 0);
  t.deepEqual(await node.host.loops.list(), []);
});

test('a mount is unmounted only after a running thaw has ended, since the freezer has it open', async (t) => {
  const { node, volumes, at, leave, untilFrozen } = await guardedNode(t);
  const { freezer, mounts } = node.host;
  const freeze = freezer.freeze.bind(freezer);
  const thaws: (() => void)[] = [];
  let isOver = false;
  freezer.freeze = async (...asked) => {
    const made = await freeze(...asked);
    const thaw = async (): Promise<number> => {
      const frozenMs = await made.thaw();
      await new Promise<void>((resolve) => thaws.push(resolve));
      isOver = true;
      return frozenMs;
    };
    return { ...made, thaw };
  };
  const unmount = mounts.unmount.bind(mounts);
  const seen: boolean[] = [];
  mounts.unmount = async (...asked) => {
    seen.push(isOver);
    await unmount(...asked);
  };
  leave(tooFew);
  await untilFrozen();
  leave(enough);
  await until('a thaw runs', () => thaws.length > 0, 20_000);
  const unpublished = volumes.unpublishVolume(call(), at);
  // Longer than an unpublish takes before its unmount.
  await volumes.createVolume(call(), volumeInput('other'));
  t.deepEqual(seen, []);
  for (const end of thaws) end();
  await unpublished;
  t.deepEqual(seen, [true]);
});

test('a freeze ends at its time limit', async (t) => {
  const { leave, isFrozen, domain, at } = await guardedNode(t, { guardFreezeLimitMs: 50 });
  leave(tooFew);
  // Only a freeze that took effect can expire. It may be too short to be seen by polling.
  await until('it has expired', () => domain.guard.isExpired(at.volumeId), 20_000);
  // The freezer has its own time limit, five seconds later, in case the guard has died.
  await until('it is thawed', () => !isFrozen(), 4_000);
  t.pass();
});

test('an expired freeze is reported only while the volume is mounted', async (t) => {
  const on = await guardedNode(t, { guardFreezeLimitMs: 50 });
  const saysExpired = async () =>
    (await on.volumes.volumeHealth(on.at.volumeId)).some(
      ({ reason }) => reason === 'RoomGuardExpired',
    );
  on.leave(tooFew);
  await until('the limit has passed', () => on.domain.guard.isExpired(on.at.volumeId), 4_000);
  await untilLooked(on);
  t.false(on.isFrozen(), 'it is not frozen again before there is free space');
  t.true(await saysExpired());
  await on.volumes.unpublishVolume(call(), on.at);
  t.true(await saysExpired(), 'it is still staged');
  await on.volumes.unstageVolume(call(), on.at);
  t.false(await saysExpired());
  t.false(on.domain.guard.isExpired(on.at.volumeId));
});

test('after the time limit a volume is guarded again once there was free space', async (t) => {
  const on = await guardedNode(t, { guardFreezeLimitMs: 50 });
  on.leave(tooFew);
  await until('the limit has passed', () => on.domain.guard.isExpired(on.at.volumeId), 4_000);
  on.leave(enough);
  await until('it is guarded', () => !on.domain.guard.isExpired(on.at.volumeId), 20_000);
  on.leave(tooFew);
  // A freeze of 50 ms may be too short to be seen by polling.
  const freezes = () =>
    on.log.filter(({ msg }) => msg === 'a volume was frozen because its pool was nearly full');
  await until('it is frozen again', () => freezes().length === 2, 20_000);
  t.pass();
});

test('after a shutdown nothing is frozen', async (t) => {
  const { leave, untilFrozen, isFrozen, close } = await guardedNode(t);
  leave(tooFew);
  await untilFrozen();
  await close();
  t.false(isFrozen());
});
