import { cp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { MiB } from '../../../../src/units.ts';
import type { OpenedVolumes } from '../../../../src/volumes/open.ts';
import { type FakeNode, fakeNode } from '../../../helpers/fake-node.ts';
import { reasonOf } from '../../../helpers/reason-of.ts';
import { call, capability, plainSettings, volumeInput } from '../../../helpers/scratch-node.ts';

/** A volume, its snapshot and its group snapshot, created in one pool and with the same names again in another. */
class Duplicates {
  readonly node: FakeNode;
  opened!: OpenedVolumes;
  volumeId = '';
  snapshotId = '';
  groupId = '';
  readonly #t: ExecutionContext;
  /** The order of the --pool flags. */
  readonly #order: readonly string[];

  private constructor(t: ExecutionContext, node: FakeNode, order: readonly string[]) {
    this.#t = t;
    this.node = node;
    this.#order = order;
  }

  /** All of them exist in `old` and in `new`. Both pools are served, and the entries in `new` are in use. */
  static async make(t: ExecutionContext, order: readonly string[]): Promise<Duplicates> {
    const duplicates = new Duplicates(t, await fakeNode(t, { reflink: true }), order);
    await duplicates.open(['old']);
    await duplicates.#fill('old');
    await duplicates.opened.close(100);
    await duplicates.open(['new']);
    await duplicates.#fill('new');
    await duplicates.opened.close(100);
    await duplicates.open(order);
    return duplicates;
  }

  async open(names: readonly string[]): Promise<void> {
    this.opened = await this.node.open(names.map((name) => this.node.settings(name)));
  }

  async restart(): Promise<void> {
    await this.opened.close(100);
    await this.open(this.#order);
  }

  async #fill(pool: string): Promise<void> {
    const { volumes } = this.opened;
    const settings = { ...plainSettings, pool };
    const input = volumeInput('v', { settings, sizeBytes: 16n * MiB, kind: 'block' });
    this.volumeId = (await volumes.createVolume(call(), input)).record.id;
    const { record } = await volumes.createSnapshot(call(), {
      name: 's',
      sourceVolumeId: this.volumeId,
      settings: { freeze: false },
      parameters: {},
    });
    this.snapshotId = record.id;
    const group = await volumes.createGroupSnapshot(call(), {
      name: 'g',
      sourceVolumeIds: [this.volumeId],
      settings: { freeze: false },
      parameters: {},
    });
    this.groupId = group.record.id;
    await writeFile(join(this.pathOf(pool, 'volumes'), this.volumeId, 'disk.img'), pool, {
      flag: 'r+',
    });
  }

  pathOf(pool: string, area: string): string {
    return join(this.node.directory, pool, area);
  }

  in(pool: string, area: string): Promise<string[]> {
    return readdir(this.pathOf(pool, area));
  }

  async #groupMembers(): Promise<readonly string[]> {
    const text = await readFile(
      join(this.pathOf('old', 'groups'), this.groupId, 'group.json'),
      'utf8',
    );
    return (JSON.parse(text) as { snapshotIds: string[] }).snapshotIds;
  }

  /** The outcome of each delete. */
  async deleteAll(): Promise<Record<string, string>> {
    const { volumes } = this.opened;
    const members = await this.#groupMembers();
    return {
      group: await reasonOf(volumes.deleteGroupSnapshot(call(), this.groupId, members)),
      snapshot: await reasonOf(volumes.deleteSnapshot(call(), this.snapshotId)),
      volume: await reasonOf(volumes.deleteVolume(call(), this.volumeId)),
    };
  }

  /** Asserts that all entries that were created first are complete, and that none was deleted. */
  async requireOldWhole(): Promise<void> {
    const t = this.#t;
    await this.opened.domain.trash.whenIdle();
    t.deepEqual(await this.in('old', 'volumes'), [this.volumeId]);
    t.is((await this.in('old', 'snapshots')).length, 2);
    t.deepEqual(await this.in('old', 'groups'), [this.groupId]);
    t.deepEqual(await this.in('old', 'trash'), []);
    const image = join(this.pathOf('old', 'volumes'), this.volumeId, 'disk.img');
    t.is((await readFile(image)).subarray(0, 3).toString(), 'old');
  }
}

const allOk = { group: 'ok', snapshot: 'ok', volume: 'ok' };
const allRefused = { group: 'wrong-state', snapshot: 'wrong-state', volume: 'wrong-state' };

for (const order of [
  ['old', 'new'],
  ['new', 'old'],
]) {
  test(`the entry that was created later is used and deleted, and repeated deletes never change its duplicate: pools ${order.join(', ')}`, async (t) => {
    const duplicates = await Duplicates.make(t, order);
    const { pool } = await duplicates.opened.volumes.getVolume(duplicates.volumeId);
    t.is(pool, 'new');
    t.is((await duplicates.opened.volumes.getSnapshot(duplicates.snapshotId)).pool, 'new');
    t.deepEqual(await duplicates.deleteAll(), allOk);
    await duplicates.requireOldWhole();
    for (const area of ['volumes', 'snapshots', 'groups']) {
      t.deepEqual(await duplicates.in('new', area), [], area);
    }
    for (let repeat = 0; repeat < 2; repeat += 1) {
      t.deepEqual(await duplicates.deleteAll(), allRefused);
      await duplicates.requireOldWhole();
    }
    await duplicates.restart();
    t.deepEqual(await duplicates.deleteAll(), allRefused, 'as repeats after a lost answer');
    await duplicates.requireOldWhole();
  });
}

test('if only a duplicate is left, every call reports its path and the remedy', async (t) => {
  const duplicates = await Duplicates.make(t, ['old', 'new']);
  const { volumes } = duplicates.opened;
  await duplicates.deleteAll();
  const path = join(duplicates.pathOf('old', 'volumes'), duplicates.volumeId);
  const refused = { message: new RegExp(`${path} is not used, .*move it out of the pool`) };
  await t.throwsAsync(volumes.deleteVolume(call(), duplicates.volumeId), refused);
  await t.throwsAsync(volumes.getVolume(duplicates.volumeId), refused);
  await t.throwsAsync(volumes.createVolume(call(), volumeInput('v', { kind: 'block' })), refused);
  const stagingTargetPath = join(duplicates.node.directory, 'staging');
  const staging = { volumeId: duplicates.volumeId, stagingTargetPath };
  const asked = { ...staging, capability: capability({ kind: 'block' }) };
  await t.throwsAsync(volumes.stageVolume(call(), asked), refused);
  await volumes.unstageVolume(call(), staging);
  const page = { maxEntries: 0, startingToken: '' };
  t.deepEqual((await volumes.listVolumes(page)).entries, []);
  const [unhealthy, ...more] = (await volumes.listVolumeHealth(page)).entries;
  t.deepEqual(more, []);
  t.like(unhealthy, { volumeId: duplicates.volumeId });
  t.is(unhealthy?.conditions[0]?.reason, 'TwinSetAside');
  const conditions = await volumes.storageHealth();
  t.like(conditions, [{ pool: 'old', reason: 'TwinsSetAside' }]);
  t.regex(conditions[0]?.message ?? '', /4 entries of pool 'old'/);
  const findings = await duplicates.opened.administration.diagnose();
  const reported = findings.filter(({ name }) => name === 'pool:old:record');
  t.is(reported.length, 4);
  t.true(reported.every(({ remedy }) => /move it out of the pool/.test(remedy)));
});

test('health reports the entry that is used, whatever the order of the pools', async (t) => {
  const duplicates = await Duplicates.make(t, ['old', 'new']);
  const { volumes } = duplicates.opened;
  t.deepEqual(await volumes.volumeHealth(duplicates.volumeId), []);
  const page = { maxEntries: 0, startingToken: '' };
  t.deepEqual((await volumes.listVolumeHealth(page)).entries, []);
});

test('after a duplicate was moved out of the pool, nothing is reported any more, without a restart', async (t) => {
  const duplicates = await Duplicates.make(t, ['old', 'new']);
  const { volumes } = duplicates.opened;
  await duplicates.deleteAll();
  for (const area of ['groups', 'snapshots', 'volumes']) {
    for (const id of await duplicates.in('old', area)) {
      await rename(
        join(duplicates.pathOf('old', area), id),
        join(duplicates.node.directory, `${area}-${id}`),
      );
    }
  }
  t.is(await reasonOf(volumes.deleteSnapshot(call(), duplicates.snapshotId)), 'ok');
  t.is(await reasonOf(volumes.deleteVolume(call(), duplicates.volumeId)), 'ok');
  t.is(await reasonOf(volumes.createVolume(call(), volumeInput('v'))), 'ok');
});

test('a duplicate is used once the other entry is deleted and an operator has removed its twin.json', async (t) => {
  const duplicates = await Duplicates.make(t, ['old', 'new']);
  const note = join(duplicates.pathOf('old', 'volumes'), duplicates.volumeId, 'twin.json');
  await rm(note);
  await duplicates.restart();
  t.is((await duplicates.opened.volumes.getVolume(duplicates.volumeId)).pool, 'new');
  t.true((await readdir(join(note, '..'))).includes('twin.json'), 'the other entry still exists');
  await duplicates.opened.volumes.deleteVolume(call(), duplicates.volumeId);
  await rm(note);
  const asked = volumeInput('v', { kind: 'block', sizeBytes: 16n * MiB });
  t.is((await duplicates.opened.volumes.createVolume(call(), asked)).pool, 'old');
  t.is(await reasonOf(duplicates.opened.volumes.deleteVolume(call(), duplicates.volumeId)), 'ok');
});

test('a pool that becomes available while the driver runs does not change which entry is used', async (t) => {
  const node = await fakeNode(t);
  const [a, b] = [node.settings('a'), node.settings('b')];
  const first = await node.open([a]);
  const { record } = await first.volumes.createVolume(call(), volumeInput('v'));
  await first.close(100);
  await rename(a.path, `${a.path}-away`);
  const both = await node.open([a, b]);
  const settings = { ...plainSettings, pool: 'b' };
  await both.volumes.createVolume(call(), volumeInput('v', { settings }));
  await rename(`${a.path}-away`, a.path);
  t.is((await both.administration.adoptPool('a')).problem, undefined);
  t.is((await both.volumes.getVolume(record.id)).pool, 'b');
  await both.close(100);
  await rename(b.path, `${b.path}-away`);
  const alone = await node.open([a, b]);
  t.is(await reasonOf(alone.volumes.getVolume(record.id)), 'wrong-state', 'old data');
});

test('an entry with a damaged record is a duplicate too if another pool uses its id', async (t) => {
  const node = await fakeNode(t);
  const [a, b] = [node.settings('a'), node.settings('b')];
  const first = await node.open([a]);
  const { record } = await first.volumes.createVolume(call(), volumeInput('v'));
  await first.close(100);
  const second = await node.open([b]);
  await second.volumes.createVolume(call(), volumeInput('v'));
  await second.close(100);
  await writeFile(join(a.path, 'volumes', record.id, 'volume.json'), 'damaged');
  const both = await node.open([a, b]);
  t.is(await reasonOf(both.volumes.deleteVolume(call(), record.id)), 'ok');
  t.is(await reasonOf(both.volumes.deleteVolume(call(), record.id)), 'wrong-state');
  t.deepEqual(await readdir(join(a.path, 'volumes')), [record.id]);
});

test('a record of a later version of the driver is neither used nor removed nor rewritten', async (t) => {
  const duplicates = await Duplicates.make(t, ['old']);
  await duplicates.opened.close(100);
  const files: readonly string[] = [
    join(duplicates.pathOf('old', 'volumes'), duplicates.volumeId, 'volume.json'),
    join(duplicates.pathOf('old', 'snapshots'), duplicates.snapshotId, 'snapshot.json'),
    join(duplicates.pathOf('old', 'groups'), duplicates.groupId, 'group.json'),
  ];
  const texts: string[] = [];
  for (const file of files) {
    const record = JSON.parse(await readFile(file, 'utf8')) as object;
    const text = JSON.stringify({ ...record, schemaVersion: 2, state: 'compressed' });
    await writeFile(file, text);
    await writeFile(`${file}.new`, 'half a replacement');
    texts.push(text);
  }
  await duplicates.open(['old']);
  for (let repeat = 0; repeat < 2; repeat += 1) {
    t.deepEqual(await duplicates.deleteAll(), allRefused);
    await duplicates.requireOldWhole();
  }
  const { volumes } = duplicates.opened;
  const later = {
    message: new RegExp(`${files.at(0) ?? ''} was written by a later version .*upgrade the driver`),
  };
  await t.throwsAsync(volumes.deleteVolume(call(), duplicates.volumeId), later);
  await t.throwsAsync(volumes.createVolume(call(), volumeInput('v')), later);
  const [condition] = await volumes.volumeHealth(duplicates.volumeId);
  t.is(condition?.reason, 'RecordOfLaterVersion');
  for (const [index, file] of files.entries()) {
    t.is(await readFile(file, 'utf8'), texts[index] ?? '');
    t.is(await readFile(`${file}.new`, 'utf8'), 'half a replacement');
  }
});

test('a pool with a record of a later version is not adopted: its ids would be rewritten', async (t) => {
  const node = await fakeNode(t);
  const a = node.settings('a');
  const first = await node.open([a]);
  const { record } = await first.volumes.createVolume(call(), volumeInput('v'));
  await first.close(100);
  const file = join(a.path, 'volumes', record.id, 'volume.json');
  const text = (await readFile(file, 'utf8')).replace('"schemaVersion": 1', '"schemaVersion": 7');
  await writeFile(file, text);
  const marker = join(a.path, 'pool.json');
  const foreign = (await readFile(marker, 'utf8')).replace(record.id.slice(-8), '0123abcd');
  await writeFile(marker, foreign);
  await cp(join(a.path, 'volumes', record.id), join(a.path, 'volumes', 'v.0123abcd'), {
    recursive: true,
  });
  const opened = await node.open([a]);
  const adopting = opened.administration.adoptPool('a');
  await t.throwsAsync(adopting, { message: /later version .*upgrade the driver/ });
  t.is(await readFile(marker, 'utf8'), foreign);
  t.deepEqual((await readdir(join(a.path, 'volumes'))).sort(), ['v.0123abcd', record.id].sort());
});
