import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { KernelError } from '../../../../src/host/errors.ts';
import { GiB, MiB } from '../../../../src/units.ts';
import { findGuarded } from '../../../../src/volumes/guard/space-guarded.ts';
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
/** Below the mark at which filesystems are frozen, and above the one at which they are thawed. */
const [tooFew, enough] = [128n * MiB, 4n * GiB];
/** Below the mark at which everything is trimmed, above that of the freeze. */
const few = 384n * MiB;

/** A node with a staged volume in an overcommitted pool, whose free bytes a test sets. */
async function guardedNode(t: ExecutionContext, settings: Partial<OpenDeps['settings']> = {}) {
  const node = await fakeNode(t);
  let freeBytes = enough;
  const { files } = node.host;
  const capacity = files.capacity.bind(files);
  files.capacity = async (path) => ({ ...(await capacity(path)), totalBytes, freeBytes });
  const { volumes, domain, ...opened } = await node.open(
    [node.settings('a', { overcommitPerMille: 4000 })],
    { settings: { ...testSettings, ...settings } },
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
    isFrozen,
    close: () => opened.close(100),
    leave: (bytes: bigint) => {
      freeBytes = bytes;
    },
    untilFrozen: () => until('it stands still', isFrozen, 20_000),
    untilThawed: () => until('it goes on', () => !isFrozen(), 20_000),
  };
}

test('below the mark it stands still, and goes on when room has returned', async (t) => {
  const { leave, untilFrozen, untilThawed, domain, at } = await guardedNode(t);
  leave(tooFew);
  await untilFrozen();
  t.not(domain.guard.frozenSince(at.volumeId), undefined);
  leave(enough);
  await untilThawed();
  t.is(domain.guard.frozenSince(at.volumeId), undefined);
});

test('between the marks it is trimmed, not frozen', async (t) => {
  const { node, leave, isFrozen } = await guardedNode(t);
  leave(few);
  await until('it is trimmed', () => node.host.calls.includes('mounts.trim'));
  t.false(isFrozen());
});

test('what a call is at is frozen only when the call has ended', async (t) => {
  const { node, leave, isFrozen, untilFrozen, domain, at } = await guardedNode(t);
  const release = domain.operations.locks.take({ exclusive: [`volume:${at.volumeId}`] }, 'a test');
  leave(tooFew);
  const looks = () => node.host.calls.filter((name) => name === 'files.capacity').length;
  const before = looks();
  await until('the guard has looked', () => looks() > before + 3);
  t.false(isFrozen());
  release();
  await untilFrozen();
});

for (const [name, end] of [
  ['unpublish', ({ volumes, at }) => volumes.unpublishVolume(call(), at)],
  [
    'expand',
    ({ volumes, at }) =>
      volumes.nodeExpandVolume(call(), {
        volumeId: at.volumeId,
        volumePath: at.stagingTargetPath,
        range: { requiredBytes: 1n, limitBytes: 0n },
      }),
  ],
] as const satisfies readonly (readonly [
  string,
  (on: Awaited<ReturnType<typeof guardedNode>>) => Promise<unknown>,
])[]) {
  test(`${name} ends a freeze, which does not come back before room has`, async (t) => {
    const on = await guardedNode(t);
    on.leave(tooFew);
    await on.untilFrozen();
    await end(on);
    t.false(on.isFrozen());
    t.true(on.domain.guard.isExempt(on.at.volumeId));
    const looks = () => on.node.host.calls.filter((one) => one === 'files.capacity').length;
    const before = looks();
    await until('the guard has looked again', () => looks() > before + 3);
    t.false(on.isFrozen(), 'room has not');
    on.leave(enough);
    await until('it is guarded again', () => !on.domain.guard.isExempt(on.at.volumeId));
  });
}

test('a look that fails is not the last one', async (t) => {
  const { node, leave, untilFrozen, isFrozen } = await guardedNode(t);
  node.host.failNext('files.capacity', new KernelError('statfs', 'EIO', 'a test'));
  leave(tooFew);
  await untilFrozen();
  t.true(isFrozen());
});

test('a thick volume, which takes nothing more of its pool, is not guarded', async (t) => {
  const { node, volumes, domain, at } = await guardedNode(t);
  const settings = { ...plainSettings, provisioning: 'thick', trim: 'off' } as const;
  const input = volumeInput('thick', { sizeBytes: 16n * MiB, settings });
  const { record } = await volumes.createVolume(call(), input);
  const stagingTargetPath = join(node.directory, 'thick');
  await mkdir(stagingTargetPath);
  const asked = { volumeId: record.id, stagingTargetPath, capability: capability() };
  await volumes.stageVolume(call(), asked);
  const guarded = await findGuarded(node.host, domain.pools.named('a'));
  t.deepEqual(
    guarded.map(({ record: { id } }) => id),
    [at.volumeId],
  );
});

test('unstage ends a freeze', async (t) => {
  const { volumes, at, leave, untilFrozen, domain } = await guardedNode(t);
  await volumes.unpublishVolume(call(), at);
  leave(tooFew);
  await untilFrozen();
  await volumes.unstageVolume(call(), at);
  t.is(domain.guard.frozenSince(at.volumeId), undefined);
  t.is(domain.guard.frozenCount, 0);
});

test('a freeze ends at its bound', async (t) => {
  const { leave, untilFrozen, isFrozen, domain, at } = await guardedNode(t, {
    guardFreezeLimitMs: 50,
  });
  leave(tooFew);
  await untilFrozen();
  // The freezer has a bound of its own, five seconds later, for a guard that has died.
  await until('it goes on', () => !isFrozen(), 4_000);
  t.true(domain.guard.isExempt(at.volumeId));
});

test('a driver that ends leaves nothing frozen', async (t) => {
  const { leave, untilFrozen, isFrozen, close } = await guardedNode(t);
  leave(tooFew);
  await untilFrozen();
  await close();
  t.false(isFrozen());
});
