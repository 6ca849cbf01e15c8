import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import type * as v from 'valibot';
import { VolumeError } from '../../../src/errors.ts';
import { makePaths } from '../../../src/host/files/paths.ts';
import { replaceFile, replaceFilePoints } from '../../../src/host/files/replace-file.ts';
import { driverLane } from '../../../src/host/lane.ts';
import { noLimits } from '../../../src/host/loop/io-limits.ts';
import { volumeIdFor } from '../../../src/ids.ts';
import { encodeJson, LaterVersionError } from '../../../src/state/decode.ts';
import * as records from '../../../src/state/records.ts';
import {
  copyProgress,
  duplicateRecord,
  groupRecord,
  lastTrimRecord,
  nodeStateSchema,
  poolMarker,
  readRecord,
  restoreProgress,
  snapshotRecord,
  type VolumeRecord,
  volumeRecord,
  writeRecord,
} from '../../../src/state/records.ts';

const paths = makePaths(driverLane);

const record: VolumeRecord = {
  schemaVersion: 1,
  id: volumeIdFor('v', '00000000'),
  name: 'v',
  kind: 'mount',
  fsType: 'ext4',
  fsUuid: '6a4f0a3e-0000-4000-8000-000000000000',
  provisioning: 'thin',
  sectorSize: 4096,
  sizeBytes: 2n ** 62n,
  trim: 'periodic',
  limits: noLimits,
  directIo: true,
  mkfsOptions: [],
  parameters: { pool: 'fast' },
  source: null,
  ephemeralTarget: null,
  mountOptions: [],
  createdAtMs: 1_700_000_000_000,
};

async function scratch(t: { teardown(f: () => Promise<void>): void }): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-records-'));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

test('a record is read as it was written, with byte counts above 2^53', async (t) => {
  const path = join(await scratch(t), 'volume.json');
  await fc.assert(
    fc.asyncProperty(
      fc.bigInt({ min: 0n, max: 2n ** 62n }),
      fc.string({ unit: 'grapheme' }),
      async (sizeBytes, name) => {
        const written = { ...record, sizeBytes, name };
        await writeRecord(paths, path, { schema: volumeRecord, value: written, durable: false });
        t.deepEqual(await readRecord(paths, volumeRecord, path), written);
      },
    ),
    { numRuns: 50 },
  );
});

test('a failure after any step leaves the complete old or new record and no temporary file', async (t) => {
  const directory = await scratch(t);
  const path = join(directory, 'r');
  for (const point of replaceFilePoints) {
    await writeFile(path, 'old');
    await t.throwsAsync(
      replaceFile(path, 'new', {
        reached: (here) => {
          if (here === point) throw new Error('stop');
        },
      }),
      { message: 'stop' },
    );
    t.is(await readFile(path, 'utf8'), point === 'record:renamed' ? 'new' : 'old', point);
    t.deepEqual(await readdir(directory), ['r']);
  }
});

/** The text of the record with other fields. */
const withField = (fields: object): string =>
  JSON.stringify({ ...(JSON.parse(encodeJson(record)) as object), ...fields });

for (const [why, text, reason] of [
  ['is truncated', '{"schemaVersion": 1,', 'internal'],
  ['has a later version', '{"schemaVersion": 2}', 'wrong-state'],
  ['has no version', '{}', 'internal'],
  ['has a size that is not a number', withField({ sizeBytes: '1e9' }), 'internal'],
  ['has a limit below 0', withField({ limits: { readIops: '-1' } }), 'internal'],
  ['has an unknown kind', withField({ kind: 'tape' }), 'internal'],
] as const) {
  test(`a record that ${why} is refused by its path and not changed`, async (t) => {
    const path = join(await scratch(t), 'volume.json');
    await writeFile(path, text);
    const error = await t.throwsAsync(readRecord(paths, volumeRecord, path), {
      instanceOf: VolumeError,
    });
    t.is(error?.reason, reason);
    t.true(error?.message.includes(path));
    t.is(await readFile(path, 'utf8'), text);
  });
}

const shared = { schemaVersion: 1, id: 'x.00000000', name: 'x', parameters: {} };
const staged = { stagingTargetPath: '/s', accessMode: '', mountFlags: [], fsType: '' };
const pod = { namespace: 'n', name: 'p', uid: 'u' };
const publication = { targetPath: '/t', readOnly: false, accessMode: '', mountFlags: [], pod };
const written = { ...record, sizeBytes: '1', reachedBytes: '1' };
const copy = { allocatedBytes: '1', sourceModifiedNs: '1' };
const { kind, fsType, fsUuid, provisioning, sectorSize } = record;

/** A record of each kind, as in its file, with all objects that it may contain. */
const everyKind = {
  'volume.json': [volumeRecord, { ...written, source: { kind: 'volume', id: 'y' } }],
  'snapshot.json': [
    snapshotRecord,
    {
      ...{ ...shared, kind, fsType, fsUuid, provisioning, sectorSize, sizeBytes: '1', copy },
      ...{
        sourceVolumeId: 'y',
        groupId: null,
        groupPool: null,
        state: 'copying',
        prepared: { attempt: 'a' },
      },
      ...{ frozenMs: 0, createdAtMs: 0 },
    },
  ],
  'group.json': [
    groupRecord,
    {
      ...{ ...shared, sourceVolumeIds: [], snapshotIds: [], frozenMs: 0, createdAtMs: 0 },
      attempt: 'a',
      elsewhere: [{ snapshotId: 's', sourceVolumeId: 'v', sizeBytes: '1', nodeId: 'n' }],
    },
  ],
  'pool.json': [poolMarker, { schemaVersion: 1, uuid: 'u', nodeTag: '00000000', createdAtMs: 0 }],
  'node.json': [
    nodeStateSchema,
    { schemaVersion: 1, staged, published: [{ ...publication, fsType: '' }], dockerMountIds: [] },
  ],
  'twin.json': [duplicateRecord, { schemaVersion: 1, usedPool: 'u', usedPoolName: 'p' }],
  'trim.json': [lastTrimRecord, { schemaVersion: 1, trimmedAtMs: 0 }],
  'copy.json': [copyProgress, { schemaVersion: 1, doneBytes: '1' }],
  'restore.json': [
    restoreProgress,
    {
      ...{ schemaVersion: 1, volumeId: 'v', doneBytes: '1' },
      source: { snapshotId: 's', createdAtMs: 0, inode: '1:2' },
    },
  ],
} as const satisfies Record<string, readonly [v.GenericSchema, object]>;

/** Adds the fields to the value and to every object in it, except to maps, whose keys are free. */
function withFields(value: unknown, fields: object): unknown {
  if (Array.isArray(value)) return value.map((one) => withFields(one, fields));
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).map(([key, one]) => [
    key,
    key === 'parameters' ? (one as unknown) : withFields(one, fields),
  ]);
  return { ...fields, ...(Object.fromEntries(entries) as object) };
}

const unknownFields = fc.dictionary(
  fc.string({ minLength: 1, maxLength: 8 }).map((name) => `later-${name}`),
  fc.jsonValue({ maxDepth: 2 }).filter((value) => !Object.is(value, -0)),
  { maxKeys: 3 },
);

for (const [file, [schema, value]] of Object.entries(everyKind)) {
  test(`a rewrite of ${file} keeps unknown fields of all its objects`, async (t) => {
    const path = join(await scratch(t), file);
    await fc.assert(
      fc.asyncProperty(unknownFields, async (fields) => {
        const text = JSON.stringify(withFields(value, fields));
        await writeFile(path, text);
        const read: unknown = await readRecord(paths, schema, path);
        await writeRecord(paths, path, { schema, value: read as never, durable: false });
        t.deepEqual(JSON.parse(await readFile(path, 'utf8')), JSON.parse(text));
      }),
      { numRuns: 20 },
    );
  });

  test(`${file} of a later version is recognized as such, whatever else it contains`, async (t) => {
    const path = join(await scratch(t), file);
    for (const text of ['{"schemaVersion":2}', JSON.stringify({ ...value, schemaVersion: 7 })]) {
      await writeFile(path, text);
      const error = await t.throwsAsync(readRecord(paths, schema, path), {
        instanceOf: LaterVersionError,
      });
      t.regex(error.message, /written by a later version .* upgrade the driver/);
    }
  });
}

test('the kinds above are all that have a schema', (t) => {
  const tested = new Set<unknown>(Object.values(everyKind).map(([schema]) => schema));
  const others = Object.entries(records).filter(
    ([, one]) => typeof one === 'object' && 'entries' in one && !tested.has(one),
  );
  t.deepEqual(
    others.map(([name]) => name),
    [],
  );
});

test('an invalid time becomes the nearest valid one', async (t) => {
  const path = join(await scratch(t), 'volume.json');
  for (const [written, shown] of [
    ['1e300', '9999-12-31T23:59:59.999Z'],
    ['1e400', '9999-12-31T23:59:59.999Z'],
    ['-1e18', '1970-01-01T00:00:00.000Z'],
    ['1000.5', '1970-01-01T00:00:01.001Z'],
  ] as const) {
    const text = JSON.stringify({ ...record, sizeBytes: '1' });
    await writeFile(path, text.replace(String(record.createdAtMs), written));
    const { createdAtMs } = await readRecord(paths, volumeRecord, path);
    t.is(new Date(createdAtMs).toISOString(), shown);
    t.notThrows(() => BigInt(createdAtMs));
  }
});

test('a record that cannot be decoded is not written', async (t) => {
  const path = join(await scratch(t), 'volume.json');
  const value = { ...record, sizeBytes: -1n };
  await t.throwsAsync(writeRecord(paths, path, { schema: volumeRecord, value }));
  await t.throwsAsync(readFile(path), { code: 'ENOENT' });
});
