/** Compares a node with the model after a step. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import type { LoopDevice } from '../../src/host/host.ts';
import { type VolumeId, volumeIdFor } from '../../src/ids.ts';
import { until } from '../helpers/until.ts';
import type { State, Volume } from './model.ts';
import type { SnapshotName, TargetName, VolumeName } from './steps.ts';
import type { Subject } from './subject.ts';

export const stagingOf = (subject: Subject, v: VolumeName): string =>
  join(subject.directory, `staging-${v}`);
export const targetOf = (subject: Subject, target: TargetName): string =>
  join(subject.directory, `target-${target}`);
export const idOf = (subject: Subject, v: VolumeName): VolumeId =>
  volumeIdFor(subject.nameOf(v), subject.opened().domain.settings.nodeTag);

/** The paths that show the volume's content, as a filesystem or as a device node. */
export function viewsOf(
  subject: Subject,
  v: VolumeName,
  { kind, staged, targets }: Volume,
): readonly { path: string; shows: 'filesystem' | 'node'; isLost: boolean; readOnly: boolean }[] {
  const shows = kind === 'block' ? 'node' : 'filesystem';
  const staging = stagingOf(subject, v);
  return [
    ...(staged === undefined
      ? []
      : [
          {
            path: kind === 'block' ? join(staging, 'device') : staging,
            isLost: staged.isLost === true,
            readOnly: false,
          },
        ]),
    ...[...targets].map(([target, { isLost = false, readOnly }]) => ({
      path: targetOf(subject, target),
      isLost,
      readOnly: readOnly && kind === 'block',
    })),
  ].map((view) => ({ ...view, shows }));
}

/** The devices to which the volume's image is attached. */
export async function devicesOf(subject: Subject, v: VolumeName): Promise<readonly LoopDevice[]> {
  const volume = subject.opened().domain.pools.findVolume(idOf(subject, v));
  if (volume === undefined) return [];
  return subject.host.loops.findByImage(await subject.host.files.imageStatus(volume.imagePath));
}

/** A bound device node does not keep its device attached. Marks such devices as lost in the model when they are detached. */
export async function recordLostDevices(subject: Subject, state: State): Promise<void> {
  for (const [v, volume] of state.volumes) {
    if (volume.kind !== 'block' || volume.otherSoftware.cleared.size === 0) continue;
    const devices = await devicesOf(subject, v);
    const isGone = (readOnly: boolean): boolean =>
      devices.every((device) => device.readOnly !== readOnly);
    if (volume.staged !== undefined && isGone(false)) {
      volume.staged = { ...volume.staged, isLost: true };
    }
    for (const [target, there] of volume.targets) {
      if (isGone(there.readOnly)) volume.targets.set(target, { ...there, isLost: true });
    }
  }
}

/** The first difference as text: in volumes, snapshots, mounts, devices, frozen filesystems, or contents of paths. */
export async function compare(subject: Subject, state: State): Promise<string | undefined> {
  return (
    (await compareTables(subject, state)) ??
    (await compareDevices(subject, state)) ??
    (await compareFrozen(subject, state)) ??
    (await compareContents(subject, state))
  );
}

async function compareTables(subject: Subject, state: State): Promise<string | undefined> {
  const { volumes } = subject.opened();
  const page = { maxEntries: 0, startingToken: '' };
  const found = {
    volumes: (await volumes.listVolumes(page)).entries
      .map(({ record }) => `${record.name} ${record.sizeBytes} ${record.createdAtMs}`)
      .sort(),
    trims: await trimsOf(subject),
    snapshots: (await volumes.listSnapshots(page)).entries
      .map(({ record }) => `${record.name} ${record.createdAtMs}`)
      .sort(),
    mounts: (await subject.host.mounts.list())
      .map(({ target }) => target)
      .filter((target) => target.startsWith(`${subject.directory}/`) && !target.endsWith('/pool'))
      .sort(),
  };
  const all = [...state.volumes];
  const nameOf = (name: SnapshotName | VolumeName): string => subject.nameOf(name);
  const expected = {
    volumes: all.map(([name, { size, madeAtMs }]) => `${nameOf(name)} ${size} ${madeAtMs}`).sort(),
    trims: all
      .flatMap(([name, { trimmedAtMs: at }]) => (at === undefined ? [] : [`${nameOf(name)} ${at}`]))
      .sort(),
    snapshots: [...state.snapshots]
      .map(([name, { madeAtMs }]) => `${nameOf(name)} ${madeAtMs}`)
      .sort(),
    mounts: all
      .flatMap(([name, volume]) => viewsOf(subject, name, volume).map(({ path }) => path))
      .sort(),
  };
  if (isDeepStrictEqual(found, expected)) return undefined;
  return `the node shows ${JSON.stringify(found)}, must show ${JSON.stringify(expected)}`;
}

/** The time of each volume's last trim, from trim.json. */
async function trimsOf(subject: Subject): Promise<readonly string[]> {
  const found: string[] = [];
  for (const pool of subject.opened().domain.pools.all) {
    for (const { id, name } of pool.volumes.values()) {
      const text = await readFile(pool.pathOf('volumes', id, 'trim.json'), 'utf8').catch(() => '');
      const at = /"trimmedAtMs":\s*(\d+)/.exec(text)?.[1];
      if (at !== undefined) found.push(`${name} ${at}`);
    }
  }
  return found.sort();
}

/** Each volume has the devices that its use needs. It may have more only if other software uses or attaches them. */
async function compareDevices(subject: Subject, state: State): Promise<string | undefined> {
  for (const [v, volume] of state.volumes) {
    const needed = devicesNeeded(subject, v, volume);
    const devices = await devicesOf(subject, v);
    const { spareDevices, cleared } = volume.otherSoftware;
    const isEnough = [true, false].every(
      (readOnly) =>
        devices.filter((one) => one.readOnly === readOnly).length >= (needed.has(readOnly) ? 1 : 0),
    );
    if (!isEnough || devices.length > needed.size + spareDevices) {
      return `volume ${v} has ${devices.length} devices, needs ${needed.size} and ${spareDevices} may be spare`;
    }
    const leaving = devices.find((one) => one.autoclear && !cleared.has(one.readOnly));
    if (leaving === undefined) continue;
    // An unused device: a start may be detaching it, and undoes that if the detach is refused.
    const isIdle = !needed.has(leaving.readOnly);
    if (isIdle && (await isTakenBack(subject, leaving))) continue;
    return `volume ${v} is on ${leaving.path}, which is detached at its last close (autoclear)`;
  }
  return undefined;
}

/** Waits as long as a detach waits for other software to close the device. */
async function isTakenBack(subject: Subject, { number, backing }: LoopDevice): Promise<boolean> {
  const isNormal = async (): Promise<boolean> => {
    const devices = await subject.host.loops.findByImage(backing);
    return devices.every((device) => device.number !== number || !device.autoclear);
  };
  return until(`/dev/loop${number} is a normal device or gone`, isNormal, 15_000).then(
    () => true,
    () => false,
  );
}

/** Contains false if the volume needs its read-write device, and true if it needs its read-only one. */
function devicesNeeded(subject: Subject, v: VolumeName, volume: Volume): ReadonlySet<boolean> {
  return new Set(
    viewsOf(subject, v, volume)
      .filter(({ isLost }) => !isLost)
      .map(({ readOnly }) => readOnly),
  );
}

/** Between two calls only filesystems that the space guard has frozen are frozen. */
async function compareFrozen(subject: Subject, state: State): Promise<string | undefined> {
  const { guard } = subject.opened().domain;
  const frozenByGuard = new Set<number>();
  for (const v of state.volumes.keys()) {
    if (guard.frozenSince(idOf(subject, v)) === undefined) continue;
    for (const { number } of await devicesOf(subject, v)) frozenByGuard.add(number);
  }
  const unexpected = subject.frozen().find((number) => !frozenByGuard.has(number));
  return unexpected === undefined
    ? undefined
    : `loop${unexpected} is frozen, but not by the space guard`;
}

/** No path of a volume may show bytes of another volume. */
export async function compareContents(subject: Subject, state: State): Promise<string | undefined> {
  for (const [v, volume] of state.volumes) {
    for (const { path, shows, isLost } of viewsOf(subject, v, volume)) {
      const mark = await subject.marks.read(path, shows);
      // A path whose device was detached may show nothing, or an image that other software attached.
      const isRight = isLost ? ['', foreignMark].includes(mark) : mark === volume.mark;
      if (isRight) continue;
      return `${path} of volume ${v} shows '${mark}', must show '${isLost ? '' : volume.mark}'`;
    }
  }
  return undefined;
}

export const foreignMark = 'not of the driver';
