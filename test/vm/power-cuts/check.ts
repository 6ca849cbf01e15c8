/** Checks that a disk has the expected content, through a driver that is started on it, and on the disk itself. */
import { mkdir, open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { VolumeError } from '../../../src/errors.ts';
import type { FsType, Host } from '../../../src/host/host.ts';
import type { Volumes } from '../../../src/volumes/api.ts';
import type { Snapshot, Volume } from '../../../src/volumes/model.ts';
import * as calls from '../../crash/calls.ts';
import { brokenInvariants, damagedImages, waitUntilIdle } from '../../crash/invariants.ts';
import { call, capability, volumeInput } from '../../helpers/scratch-node.ts';
import type { Existence, Expected, ExpectedSnapshot, ExpectedVolume } from './acknowledgements.ts';
import { ReopenedPool } from './reopened-pool.ts';
import type { ReplayedDisk } from './replay.ts';

export interface CheckOptions {
  /** The directory below which the disk is mounted; a tmpfs is fast. */
  readonly scratch: string;
  readonly filesystem: FsType;
  readonly host: Host;
  /**
   * Read every volume and snapshot and check their filesystems, not only those that the current calls concern, and delete all of
   * them at the end.
   */
  readonly all: boolean;
}

/** Describes all errors of a disk in one state; empty if there are none. */
export async function brokenIn(
  disk: ReplayedDisk,
  expected: Expected,
  options: CheckOptions,
): Promise<readonly string[]> {
  let pool: ReopenedPool;
  try {
    pool = await ReopenedPool.mount(disk, options);
  } catch (error) {
    return [`the pool does not mount: ${String(error)}`];
  }
  const problems: string[] = [];
  try {
    problems.push(...(await brokenOn(pool, expected, options)));
    problems.push(...(await pool.unmountAndCheck()));
  } catch (error) {
    problems.push(`the check itself failed: ${String(error)}`);
  } finally {
    problems.push(...(await pool.remove()).map((left) => `${left} is left`));
  }
  return problems;
}

async function brokenOn(
  pool: ReopenedPool,
  expected: Expected,
  { all }: CheckOptions,
): Promise<readonly string[]> {
  const prefixed = (when: string, problems: readonly string[]) =>
    problems.map((problem) => `${when}: ${problem}`);
  const problems = [...prefixed('before the start', await brokenInvariants(pool, 'killed'))];
  const opened = await pool.open();
  try {
    const unready = await opened.volumes.findReadinessProblem();
    if (unready !== undefined) return [...problems, `the driver does not serve: ${unready}`];
    await waitUntilIdle(pool);
    problems.push(...prefixed('after the start', await brokenInvariants(pool, 'idle')));
    const checker = new StateChecker(pool, opened.volumes);
    problems.push(...(await checker.brokenFacts(expected)));
    problems.push(...(await checker.brokenTexts(expected, all)));
    if (all) {
      problems.push(...prefixed('checkers', await damagedImages(pool)));
      await checker.deleteAll(expected);
      await waitUntilIdle(pool);
      problems.push(...prefixed('after all was deleted', await brokenInvariants(pool, 'empty')));
    }
  } finally {
    await opened.close(5_000);
  }
  return problems;
}

/** Compares the expected content with the answers of the driver and with the content of volumes. */
class StateChecker {
  readonly #pool: ReopenedPool;
  readonly #volumes: Volumes;

  constructor(pool: ReopenedPool, volumes: Volumes) {
    this.#pool = pool;
    this.#volumes = volumes;
  }

  async brokenFacts(expected: Expected): Promise<readonly string[]> {
    const everything = { maxEntries: 0, startingToken: '' };
    const volumes = await this.#volumes.listVolumes(everything);
    const snapshots = await this.#volumes.listSnapshots(everything);
    const { entries: unhealthy } = await this.#volumes.listVolumeHealth(everything);
    return [
      ...brokenVolumes(expected, volumes.entries),
      ...brokenSnapshots(expected, snapshots.entries),
      ...(await this.#brokenGroups(expected)),
      ...unhealthy.map(
        ({ volumeId, conditions }) =>
          `${volumeId} is reported as unhealthy: ${conditions.map(({ message }) => message).join('; ')}`,
      ),
    ];
  }

  async #brokenGroups(expected: Expected): Promise<readonly string[]> {
    const problems: string[] = [];
    for (const [name, { exists, snapshots }] of expected.groups) {
      const ids = snapshots.map(calls.snapshotIdOf);
      const isThere = await this.#volumes.getGroupSnapshot(calls.groupIdOf(name), ids).then(
        () => true,
        (error: unknown) => {
          if (error instanceof VolumeError && error.reason === 'not-found') return false;
          throw error;
        },
      );
      problems.push(...contradiction(`group ${name}`, exists, isThere));
    }
    return problems;
  }

  /** Compares the texts of existing volumes and snapshots: of all, or only of those that the current calls concern. */
  async brokenTexts(expected: Expected, all: boolean): Promise<readonly string[]> {
    const problems: string[] = [];
    const isDue = (name: string): boolean => all || expected.touched.has(name);
    for (const [name, volume] of expected.volumes) {
      if (!isDue(name) || volume.texts.size === 0) continue;
      const id = calls.volumeIdOf(name);
      if (!(await this.#isThere(id))) continue;
      const found =
        volume.type === 'block'
          ? await this.#readRaw(join('volumes', id), volume.texts)
          : await this.#readStaged(id, volume);
      problems.push(...differences(`volume ${name}`, volume.texts, found));
    }
    for (const [name, snapshot] of expected.snapshots) {
      if (!isDue(name) || snapshot.texts.size === 0) continue;
      const id = calls.snapshotIdOf(name);
      // A snapshot that is still being copied has no content yet.
      if (!(await this.#isReady(id))) continue;
      const found =
        snapshot.type === 'block'
          ? await this.#readRaw(join('snapshots', id), snapshot.texts)
          : await this.#readRestored(id, snapshot);
      problems.push(...differences(`snapshot ${name}`, snapshot.texts, found));
    }
    return problems;
  }

  /** Deletes through the driver's own calls, as an operator would. */
  async deleteAll(expected: Expected): Promise<void> {
    const everything = { maxEntries: 0, startingToken: '' };
    for (const [name, { snapshots }] of expected.groups) {
      const ids = snapshots.map(calls.snapshotIdOf);
      await this.#volumes.deleteGroupSnapshot(call(), calls.groupIdOf(name), ids);
    }
    for (const { record } of (await this.#volumes.listSnapshots(everything)).entries) {
      await this.#volumes.deleteSnapshot(call(), record.id);
    }
    for (const { record } of (await this.#volumes.listVolumes(everything)).entries) {
      await this.#volumes.deleteVolume(call(), record.id);
    }
  }

  async #isThere(id: string): Promise<boolean> {
    return this.#volumes.getVolume(id).then(
      () => true,
      () => false,
    );
  }

  async #isReady(id: string): Promise<boolean> {
    return this.#volumes.getSnapshot(id).then(
      ({ record }) => record.state === 'ready',
      () => false,
    );
  }

  async #readRaw(entry: string, texts: ReadonlyMap<string, string>) {
    const image = await open(join(this.#pool.poolPath, entry, 'disk.img'));
    try {
      const found = new Map<string, string>();
      for (const [offset, { length }] of texts) {
        const { buffer } = await image.read(Buffer.alloc(length), 0, length, Number(offset));
        found.set(offset, buffer.toString('utf8'));
      }
      return found;
    } finally {
      await image.close();
    }
  }

  async #readStaged(
    volumeId: string,
    { type, texts }: { type: string; texts: ReadonlyMap<string, string> },
  ): Promise<ReadonlyMap<string, string>> {
    const stagingTargetPath = join(this.#pool.directory, `staging-${volumeId}`);
    await mkdir(stagingTargetPath, { recursive: true });
    const asked = capability({ fsType: type as FsType });
    await this.#volumes.stageVolume(call(), { volumeId, stagingTargetPath, capability: asked });
    try {
      const found = new Map<string, string>();
      for (const file of texts.keys()) {
        const text = await readFile(join(stagingTargetPath, file), 'utf8').catch(String);
        found.set(file, text);
      }
      return found;
    } finally {
      await this.#volumes.unstageVolume(call(), { volumeId, stagingTargetPath });
    }
  }

  async #readRestored(
    id: string,
    snapshot: ExpectedSnapshot,
  ): Promise<ReadonlyMap<string, string>> {
    const fsType = snapshot.type as FsType;
    const { record } = await this.#volumes.createVolume(call(), {
      ...volumeInput(`look-${id}`, { fsType, source: { kind: 'snapshot', id } }),
    });
    try {
      return await this.#readStaged(record.id, snapshot);
    } finally {
      await this.#volumes.deleteVolume(call(), record.id);
    }
  }
}

function brokenVolumes(expected: Expected, found: readonly Volume[]): readonly string[] {
  const byId = new Map<string, Volume>(found.map((volume) => [volume.record.id, volume]));
  const problems: string[] = [];
  for (const [name, volume] of expected.volumes) {
    const id = calls.volumeIdOf(name);
    const there = byId.get(id);
    byId.delete(id);
    problems.push(...contradiction(`volume ${name}`, volume.exists, there !== undefined));
    if (there !== undefined) problems.push(...brokenSize(name, volume, there));
  }
  return [...problems, ...[...byId.keys()].map((id) => `volume ${id} was never requested`)];
}

function brokenSize(name: string, expected: ExpectedVolume, { record }: Volume): readonly string[] {
  const sizeBytes = Number(record.sizeBytes);
  const { minBytes, maxBytes } = expected;
  if (sizeBytes >= minBytes && sizeBytes <= maxBytes) return [];
  return [`volume ${name} has ${sizeBytes} bytes, not ${minBytes} to ${maxBytes}`];
}

function brokenSnapshots(expected: Expected, found: readonly Snapshot[]): readonly string[] {
  const byId = new Map<string, Snapshot>(found.map((snapshot) => [snapshot.record.id, snapshot]));
  const problems: string[] = [];
  for (const [name, { exists }] of expected.snapshots) {
    const id = calls.snapshotIdOf(name);
    const there = byId.get(id);
    byId.delete(id);
    problems.push(...contradiction(`snapshot ${name}`, exists, there !== undefined));
    if (exists === 'yes' && there !== undefined && there.record.state !== 'ready') {
      problems.push(`snapshot ${name} was acknowledged and is ${there.record.state}`);
    }
  }
  return [...problems, ...[...byId.keys()].map((id) => `snapshot ${id} was never requested`)];
}

function contradiction(what: string, exists: Existence, isThere: boolean): readonly string[] {
  if (exists === 'yes' && !isThere) return [`${what} was acknowledged and does not exist`];
  if (exists === 'no' && isThere) return [`${what} exists and must not`];
  return [];
}

function differences(
  what: string,
  expected: ReadonlyMap<string, string>,
  found: ReadonlyMap<string, string>,
): readonly string[] {
  return [...expected].flatMap(([place, text]) => {
    const there = found.get(place) ?? '';
    if (there === text) return [];
    const shown = (one: string): string => `'${one.slice(0, 40)}' of ${one.length} characters`;
    return [`${what}: synced text at ${place} is lost: ${shown(there)}, not ${shown(text)}`];
  });
}
