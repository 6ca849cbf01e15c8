import { createHash, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, readdir, readFile, rm, stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { nodeTagOf } from '../../../../src/ids.ts';
import { MiB } from '../../../../src/units.ts';
import { Transfers } from '../../../../src/volumes/jobs/transfers.ts';
import {
  type End,
  type Piece,
  type ReadPosition,
  type RemoteSource,
  type SentCopy,
  SourceLostError,
  type VolumeSource,
} from '../../../../src/volumes/model.ts';
import type { OpenedVolumes } from '../../../../src/volumes/open.ts';
import { type FakeNode, fakeNode, fakeSettings } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, volumeInput } from '../../../helpers/scratch-node.ts';
import { until } from '../../../helpers/until.ts';

// One test at a time: the copies of all of them at once would keep a disk busy for longer than a pool may take to answer.
const sizeBytes = 256n * MiB;
/** Where there is data, in MiB. A copy is recorded after each 64 MiB. */
const filled = [...Array.from({ length: 150 }, (_, index) => index), 200, 255];

interface Node {
  readonly node: FakeNode;
  readonly opened: OpenedVolumes;
}

async function nodeNamed(t: ExecutionContext, name: string): Promise<Node> {
  const node = await fakeNode(t);
  const settings = { ...fakeSettings, nodeTag: nodeTagOf(name) };
  return { node, opened: await node.open([node.settings('a')], { settings }) };
}

async function fill(path: string): Promise<void> {
  const bytes = randomBytes(Number(MiB));
  const file = await open(path, 'r+');
  for (const offset of filled) {
    bytes.writeUInt32BE(offset);
    await file.write(bytes, 0, bytes.length, offset * bytes.length);
  }
  await file.close();
}

async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/** How the way between the nodes changes what is sent. It may throw. */
type Way = (step: Piece | End, reading: number) => Piece | End | Promise<Piece | End>;

/** Two nodes, the first with a snapshot, and the way to it from the second. */
async function twoNodes(t: ExecutionContext, kind: VolumeSource['kind'] = 'snapshot') {
  const [from, to] = [await nodeNamed(t, 'from'), await nodeNamed(t, 'to')];
  const input = volumeInput('source', { kind: 'block', fsType: null, sizeBytes });
  const source = (await from.opened.volumes.createVolume(call(), input)).record.id;
  const image = join(from.node.directory, 'a', 'volumes', source, 'disk.img');
  await fill(image);
  const taken = await from.opened.volumes.createSnapshot(call(), {
    name: 'snap',
    sourceVolumeId: source,
    settings: { freeze: false },
    parameters: {},
  });
  const snapshotId = taken.record.id;
  // Records that depend on time are made by `tick` only: a busy machine would make others.
  const clock: { tick?: (() => Promise<number>) | undefined; everyMs?: number } = {};
  const transfers = new Transfers(fakeSettings.transfers, (work, everyMs) => {
    Object.assign(clock, { tick: work, everyMs });
    return () => {
      clock.tick = undefined;
    };
  });
  Object.assign(to.opened.domain, { transfers });
  const sourceOfCopy = { kind, id: kind === 'snapshot' ? snapshotId : source };
  const readings: ReadPosition[] = [];
  const state = { way: ((step) => step) as Way };
  const sent = (): SentCopy => ({ source: sourceOfCopy, copyName: 'copy' });
  const remote: RemoteSource = {
    nodeId: 'from',
    describe: (_signal, options) => from.opened.volumes.describeSource(call(), sent(), options),
    read: async function* (dataState, position, signal) {
      readings.push(position);
      const reading = readings.length;
      const request = { copy: sent(), state: dataState, from: position };
      const steps = from.opened.volumes.readSource({ ...call(), signal }, request);
      for await (const step of steps) yield await state.way(step, reading);
    },
  };
  const restore = (name = 'copy') =>
    to.opened.volumes.createVolume(call(), {
      ...volumeInput(name, { kind: 'block', fsType: null, sizeBytes: 0n }),
      source: sourceOfCopy,
      remote,
    });
  const copy = (name = 'copy') =>
    join(to.node.directory, 'a', 'volumes', `${name}.${nodeTagOf('to')}`, 'disk.img');
  return {
    ...{ from, to, clock, snapshotId, source, image, readings, state, restore, copy, sent },
    snapshotImage: join(from.node.directory, 'a', 'snapshots', snapshotId, 'disk.img'),
    temporary: () => readdir(join(to.node.directory, 'a', 'tmp')),
  };
}

const isPieceAt =
  (mib: number) =>
  (step: Piece | End): boolean =>
    'data' in step && step.offset === BigInt(mib) * MiB;

test.serial('a snapshot of another node is received: equal bytes, holes stay holes', async (t) => {
  const { restore, copy, snapshotImage, readings, temporary, to } = await twoNodes(t);
  const { record } = await restore();
  t.is(record.sizeBytes, sizeBytes);
  t.is(record.source?.kind, 'snapshot');
  t.is(await hashOf(copy()), await hashOf(snapshotImage));
  t.true((await stat(copy())).blocks * 512 <= filled.length * Number(MiB) + 65_536);
  t.is(readings.length, 1);
  t.deepEqual(await temporary(), []);
  t.deepEqual(await readdir(join(copy(), '..')), ['disk.img', 'volume.json']);
  t.is(to.opened.domain.operations.locks.size, 0);
  // The same call returns the volume without reading anything.
  await restore();
  t.is(readings.length, 1);
});

test.serial('without a way to the other node, the node of the source is named', async (t) => {
  const { to, snapshotId } = await twoNodes(t);
  const input = {
    ...volumeInput('copy', { kind: 'block', fsType: null, sizeBytes: 0n }),
    source: { kind: 'snapshot' as const, id: snapshotId },
  };
  t.is(await reasonOf(to.opened.volumes.createVolume(call(), input)), 'no-space');
});

test.serial('a copy whose source is lost goes on where it was, and checks all of it', async (t) => {
  const { restore, copy, snapshotImage, readings, state, temporary } = await twoNodes(t);
  state.way = (step, reading) => {
    if (reading === 1 && isPieceAt(140)(step)) throw new SourceLostError('lost');
    return step;
  };
  t.is(await reasonOf(restore()), 'unavailable');
  const [entry = ''] = await temporary();
  t.not(entry, '', 'the copy is kept');
  await restore();
  t.deepEqual(
    readings.map(({ offset }) => offset),
    [0n, 140n * MiB],
  );
  t.is(await hashOf(copy()), await hashOf(snapshotImage));
  t.deepEqual(await temporary(), []);
});

test.serial('a copy that ended early, without its end, is not a volume', async (t) => {
  const { restore, readings, state, from, snapshotId } = await twoNodes(t);
  const { volumes } = from.opened;
  const read = volumes.readSource.bind(volumes);
  volumes.readSource = async function* (...given) {
    for await (const step of read(...given)) if ('data' in step) yield step;
  };
  const error = await t.throwsAsync(restore());
  t.regex(error?.message ?? '', new RegExp(`${snapshotId}.*ended at \\d+ of \\d+ bytes; repeat`));
  volumes.readSource = read;
  state.way = (step) => step;
  await restore();
  t.is(readings.length, 2);
});

const damages: Readonly<Record<string, (step: Piece) => Piece | End>> = {
  'other bytes': (step) => ({ ...step, data: randomBytes(step.data.length) }),
  'fewer bytes': (step) => ({ ...step, data: step.data.subarray(1) }),
  'another place': (step) => ({ ...step, offset: step.offset + 4096n }),
  'a place in a hole': (step) => ({ ...step, offset: 230n * MiB }),
  'another digest': (step) => ({ ...step, digest: randomBytes(32) }),
  'a place beyond the end': (step) => ({ ...step, offset: sizeBytes }),
  'an end too early': () => ({ sizeBytes, digest: Buffer.alloc(32) }),
};

for (const [what, damage] of Object.entries(damages)) {
  test.serial(`wrong data is read once more: ${what}`, async (t) => {
    const { restore, copy, snapshotImage, readings, state } = await twoNodes(t);
    state.way = (step, reading) =>
      reading === 1 && isPieceAt(130)(step) && 'data' in step ? damage(step) : step;
    await restore();
    t.is(readings.length, 2);
    t.is(readings[1]?.offset, 128n * MiB);
    t.is(await hashOf(copy()), await hashOf(snapshotImage));
  });

  test.serial(`data that is wrong twice is an error, and nothing is kept: ${what}`, async (t) => {
    const { restore, readings, state, temporary, to } = await twoNodes(t);
    state.way = (step) => (isPieceAt(130)(step) && 'data' in step ? damage(step) : step);
    t.is(await reasonOf(restore()), 'internal');
    t.is(readings.length, 2);
    t.deepEqual(await temporary(), []);
    t.deepEqual(await readdir(join(to.node.directory, 'a', 'volumes')), []);
    t.is(to.opened.domain.operations.locks.size, 0);
  });
}

for (const missing of [10, 149, 255]) {
  test.serial(
    `a piece that is missing, at ${missing} MiB, is noticed before anything is recorded that lacks it`,
    async (t) => {
      const { restore, copy, snapshotImage, readings, from } = await twoNodes(t);
      const { volumes } = from.opened;
      const read = volumes.readSource.bind(volumes);
      volumes.readSource = async function* (...given) {
        for await (const step of read(...given)) {
          if (readings.length > 1 || !isPieceAt(missing)(step)) yield step;
        }
      };
      await restore();
      t.is(readings.length, 2);
      t.true((readings[1]?.offset ?? 0n) <= BigInt(missing) * MiB);
      t.is(await hashOf(copy()), await hashOf(snapshotImage));
    },
  );
}

test.serial('a piece that is always missing is an error, and nothing is kept', async (t) => {
  const { restore, readings, from, temporary } = await twoNodes(t);
  const { volumes } = from.opened;
  const read = volumes.readSource.bind(volumes);
  volumes.readSource = async function* (...given) {
    for await (const step of read(...given)) if (!isPieceAt(200)(step)) yield step;
  };
  t.is(await reasonOf(restore()), 'internal');
  t.is(readings.length, 2);
  t.deepEqual(await temporary(), []);
});

test.serial('a later snapshot with the same name is copied from its beginning', async (t) => {
  const { restore, copy, snapshotImage, readings, state, from, snapshotId, temporary } =
    await twoNodes(t);
  state.way = (step, reading) => {
    if (reading === 1 && isPieceAt(140)(step)) throw new SourceLostError('lost');
    return step;
  };
  t.is(await reasonOf(restore()), 'unavailable');
  t.is((await temporary()).length, 1);
  const { volumes } = from.opened;
  await volumes.deleteSnapshot(call(), snapshotId);
  const sourceVolumeId = `source.${nodeTagOf('from')}`;
  await fill(join(from.node.directory, 'a', 'volumes', sourceVolumeId, 'disk.img'));
  const input = { name: 'snap', sourceVolumeId, settings: { freeze: false }, parameters: {} };
  await volumes.createSnapshot(call(), input);
  await restore();
  t.deepEqual(
    readings.map(({ offset }) => offset),
    [0n, 0n],
  );
  t.is(await hashOf(copy()), await hashOf(snapshotImage));
  t.deepEqual(await temporary(), [], 'what was of no use is removed');
});

test.serial(
  'a snapshot that is deleted during its copy is locked until the copy ends',
  async (t) => {
    const { restore, state, from, snapshotId } = await twoNodes(t);
    const deletes: Promise<string>[] = [];
    state.way = (step) => {
      if (isPieceAt(10)(step))
        deletes.push(reasonOf(from.opened.volumes.deleteSnapshot(call(), snapshotId)));
      return step;
    };
    await restore();
    t.deepEqual(await Promise.all(deletes), ['busy']);
    await from.opened.volumes.deleteSnapshot(call(), snapshotId);
  },
);

test.serial('the deletion of the new volume ends its copy', async (t) => {
  const { restore, state, temporary, to, from } = await twoNodes(t);
  const id = `copy.${nodeTagOf('to')}`;
  let deletion: Promise<string> | undefined;
  state.way = (step) => {
    if (isPieceAt(100)(step)) deletion = reasonOf(to.opened.volumes.deleteVolume(call(), id));
    return step;
  };
  t.not(await reasonOf(restore()), 'ok');
  t.true(['ok', 'busy'].includes((await deletion) ?? ''));
  await to.opened.volumes.deleteVolume(call(), id);
  t.deepEqual(await temporary(), []);
  t.is(from.opened.domain.operations.locks.size, 0, 'the source is read no more');
});

test.serial('the progress of a copy that was received is in its record', async (t) => {
  const { restore, state, temporary, to } = await twoNodes(t);
  state.way = (step) => {
    if (isPieceAt(140)(step)) throw new SourceLostError('lost');
    return step;
  };
  t.is(await reasonOf(restore()), 'unavailable');
  const [entry = ''] = await temporary();
  const path = join(to.node.directory, 'a', 'tmp', entry, 'restore.json');
  const progress = JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>;
  t.is(progress['doneBytes'], String(140n * MiB));
  t.regex(String(progress['digest']), /^[0-9a-f]{64}$/);
});

test.serial(
  'what a slow copy has received is recorded after some time, however little it is',
  async (t) => {
    const { restore, copy, snapshotImage, readings, state, temporary, to, clock } =
      await twoNodes(t);
    const record = async (): Promise<string> => {
      const [entry = ''] = await temporary();
      return join(to.node.directory, 'a', 'tmp', entry, 'restore.json');
    };
    const recorded = async (): Promise<unknown> => {
      const text = await readFile(await record(), 'utf8').catch(() => '{}');
      return (JSON.parse(text) as { doneBytes?: unknown }).doneBytes;
    };
    const seen: unknown[] = [];
    state.way = async (step) => {
      if (isPieceAt(10)(step)) {
        seen.push(await recorded());
        await clock.tick?.();
        await until('it is recorded', async () => (await recorded()) === String(10n * MiB));
        // Nothing new has arrived, so nothing is written.
        await rm(await record());
        await clock.tick?.();
      }
      if (isPieceAt(11)(step)) seen.push(await recorded());
      return step;
    };
    await restore();
    t.is(clock.tick, undefined, 'nothing is left running');
    t.is(clock.everyMs, 5_000);
    t.deepEqual(seen, [undefined, undefined]);
    t.is(readings.length, 1);
    t.is(await hashOf(copy()), await hashOf(snapshotImage));
  },
);

test.serial(
  'an idle volume of another node that cannot be captured is read while it is locked',
  async (t) => {
    const { restore, copy, image, from, source, state, sent } = await twoNodes(t, 'volume');
    const { volumes, domain } = from.opened;
    const deletes: Promise<string>[] = [];
    state.way = (step) => {
      if (isPieceAt(10)(step)) deletes.push(reasonOf(volumes.deleteVolume(call(), source)));
      return step;
    };
    const { record } = await restore();
    t.deepEqual(await Promise.all(deletes), ['busy']);
    t.deepEqual({ ...record.source }, { kind: 'volume', id: source });
    t.is(await hashOf(copy()), await hashOf(image));
    t.is(domain.sentVolumes.size, 0);
    t.is(domain.operations.locks.size, 0);
    await volumes.closeSource(sent());
  },
);

test.serial(
  'an idle volume that cannot be captured can be used while its copy waits for its turn',
  async (t) => {
    const { restore, copy, image, from } = await twoNodes(t, 'volume');
    const { domain } = from.opened;
    const { signal } = new AbortController();
    const ends = await Promise.all(
      Array.from({ length: fakeSettings.transfers.parallel }, () =>
        domain.transfers.beginSending(signal),
      ),
    );
    const restored = restore();
    await until('it waits', () => domain.transfers.running.some(({ isWaiting }) => isWaiting));
    await until('it is not locked', () => domain.operations.locks.size === 0);
    for (const end of ends) end();
    await restored;
    t.is(await hashOf(copy()), await hashOf(image));
    t.is(domain.operations.locks.size, 0);
    t.deepEqual(domain.transfers.running, []);
  },
);

test.serial(
  'an idle volume that has changed since its copy was interrupted is copied again',
  async (t) => {
    const { restore, copy, image, readings, state } = await twoNodes(t, 'volume');
    state.way = (step, reading) => {
      if (reading === 1 && isPieceAt(140)(step)) throw new SourceLostError('lost');
      return step;
    };
    t.is(await reasonOf(restore()), 'unavailable');
    await fill(image);
    await restore();
    t.deepEqual(
      readings.map(({ offset }) => offset),
      [0n, 0n],
    );
    t.is(await hashOf(copy()), await hashOf(image));
  },
);

test.serial(
  'an interrupted copy whose image was changed is not continued, and begins anew',
  async (t) => {
    const { restore, copy, snapshotImage, state, temporary, to } = await twoNodes(t);
    state.way = (step, reading) => {
      if (reading === 1 && isPieceAt(140)(step)) throw new SourceLostError('lost');
      return step;
    };
    t.is(await reasonOf(restore()), 'unavailable');
    const [entry = ''] = await temporary();
    await truncate(join(to.node.directory, 'a', 'tmp', entry, 'disk.img'), 1024);
    t.is(await reasonOf(restore()), 'internal');
    t.deepEqual(await temporary(), []);
    await restore();
    t.is(await hashOf(copy()), await hashOf(snapshotImage));
  },
);
