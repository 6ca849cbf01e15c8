import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { makeFiles } from '../../../../src/host/files/files.ts';
import { makePaths } from '../../../../src/host/files/paths.ts';
import { driverLane } from '../../../../src/host/lane.ts';
import { nodeTagOf } from '../../../../src/ids.ts';
import { KnownPools } from '../../../../src/state/known-pools.ts';
import { poolMarker, writeRecord } from '../../../../src/state/records.ts';
import {
  checkPoolOffline,
  checkUnconfiguredPools,
} from '../../../../src/volumes/admin/doctor-pools.ts';
import { poolDefaults } from '../../../../src/volumes/pool/settings.ts';
import { FakeHost } from '../../../helpers/fake-host.ts';

const paths = makePaths(driverLane);

const nodeId = 'here';
const uuid = '11111111-2222-3333-4444-555555555555';

async function look(
  t: ExecutionContext,
  setUp: { create?: boolean; seen?: string; make?: (path: string) => Promise<unknown> },
) {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-doctor-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const path = join(directory, 'pool');
  const stateDir = join(directory, 'state');
  if (setUp.seen !== undefined)
    await (await KnownPools.open(makeFiles(driverLane), stateDir)).remember(path, setUp.seen);
  await setUp.make?.(path);
  const settings = { ...poolDefaults, name: 'data', path, create: setUp.create ?? false };
  return checkPoolOffline(settings, { host: new FakeHost(), stateDir, nodeId });
}

async function makePool(path: string, nodeTag: string): Promise<void> {
  await mkdir(path);
  const marker = { schemaVersion: 1, uuid, nodeTag, createdAtMs: 1 } as const;
  await writeRecord(paths, join(path, 'pool.json'), { schema: poolMarker, value: marker });
}

const ours = (path: string): Promise<void> => makePool(path, nodeTagOf(nodeId));

const cases = [
  {
    name: 'absent, to be created',
    setUp: { create: true },
    state: 'ok',
    says: /is created when the driver starts/,
  },
  { name: 'absent', setUp: {}, state: 'fail', says: /does not exist/ },
  {
    name: 'absent, but a pool was seen there',
    setUp: { create: true, seen: uuid },
    state: 'fail',
    says: /does not exist/,
  },
  {
    name: 'empty, to become a pool',
    setUp: { create: true, make: mkdir },
    state: 'ok',
    says: /becomes a pool/,
  },
  { name: 'empty', setUp: { make: mkdir }, state: 'fail', says: /is not a pool yet/ },
  {
    name: 'empty, but a pool was seen there',
    setUp: { create: true, seen: uuid, make: mkdir },
    state: 'fail',
    says: /was seen there before/,
  },
  { name: 'a pool of this node', setUp: { make: ours }, state: 'ok', says: /free; not served/ },
  {
    name: 'a pool of another node',
    setUp: { make: (path: string) => makePool(path, '0badcafe') },
    state: 'fail',
    says: /tag 0badcafe/,
  },
  {
    name: 'another pool than the one seen before',
    setUp: { seen: 'another', make: ours },
    state: 'fail',
    says: /contains pool .*, but pool another was seen/,
  },
  {
    name: 'an embedded pool that no driver serves',
    setUp: {
      seen: uuid,
      make: async (path: string) => {
        await mkdir(path);
        await writeFile(join(path, 'reflink.img'), '');
      },
    },
    state: 'ok',
    says: /has an embedded pool/,
  },
  {
    name: 'a marker that cannot be read',
    setUp: {
      make: async (path: string) => {
        await mkdir(path);
        await writeFile(join(path, 'pool.json'), '{');
      },
    },
    state: 'fail',
    says: /pool\.json/,
  },
] as const;

for (const { name, setUp, state, says } of cases) {
  test(`without a driver: ${name}`, async (t) => {
    const finding = await look(t, setUp);
    t.is(finding.name, 'pool:data');
    t.is(finding.state, state, finding.message);
    t.regex(finding.message, says);
    t.is(finding.remedy === '', state === 'ok', 'every problem has a remedy');
  });
}

test('a pool with volumes that no --pool names is reported', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-doctor-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const knownPools = await KnownPools.open(makeFiles(driverLane), join(directory, 'state'));
  const [named, forgotten, empty, gone] = ['named', 'forgotten', 'empty', 'gone'].map((name) =>
    join(directory, name),
  ) as [string, string, string, string];
  for (const path of [named, forgotten, empty]) {
    await ours(path);
    await mkdir(join(path, 'volumes'));
    if (path !== empty) await mkdir(join(path, 'volumes', 'v'));
  }
  for (const path of [named, forgotten, empty, gone]) await knownPools.remember(path, uuid);
  const findings = await checkUnconfiguredPools({ host: new FakeHost() }, knownPools, [named]);
  t.deepEqual(
    findings.map(({ name, state }) => [name, state]),
    [['forgotten-pool', 'warn']],
  );
  t.true(findings[0]?.message.startsWith(forgotten));
});
