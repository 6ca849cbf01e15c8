/**
 * The I/O limits that docs/limits-io.md describes: io.max of a pod's cgroup, set for the number of a volume's loop device or of
 * the disk below the pool. The limits are so low that I/O without a limit is much faster, even under emulation.
 */
import { mkdir, readFile, realpath, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { execa } from 'execa';
import { MiB } from '../../../src/units.ts';
import { type NodeFixture, withFixture } from '../../helpers/node-fixture.ts';
import { LimitedPod } from './limited-pod.ts';

const ok = { code: 'OK', message: '' };

/** At the limit each access takes 16 seconds, whether bytes or operations are limited. */
const bytesAMoment = { bytes: 8n * MiB, block: '64k', count: 128 };
const operationsAMoment = { block: '4k', count: 128 };
const limitedMs = 16_000;
const limits = { wbps: 'wbps=524288', rbps: 'rbps=524288', wiops: 'wiops=8' } as const;

interface VolumeKind {
  readonly title: string;
  readonly kind: 'ext4' | 'xfs' | 'btrfs' | 'block';
  readonly directIo: boolean;
}

const kinds: readonly VolumeKind[] = [
  { title: 'ext4', kind: 'ext4', directIo: true },
  { title: 'ext4, directIO=false', kind: 'ext4', directIo: false },
  { title: 'xfs', kind: 'xfs', directIo: true },
  { title: 'btrfs', kind: 'btrfs', directIo: true },
  { title: 'block', kind: 'block', directIo: true },
];
const sizesMiB = { ext4: 64n, xfs: 300n, btrfs: 128n, block: 64n } as const;
const places = ['none', 'loop device', 'disk'] as const;
type Place = (typeof places)[number];

/** A program's I/O. Buffered writes end with fsync: without it they would only reach memory, which no limit slows down. */
const accesses = {
  'direct write': { limit: 'wbps', args: (file: string) => write(file, bytesAMoment, direct) },
  'buffered write': { limit: 'wbps', args: (file: string) => write(file, bytesAMoment, buffered) },
  'direct read': { limit: 'rbps', args: (file: string) => read(file, ['iflag=direct']) },
  'buffered read': { limit: 'rbps', args: (file: string) => read(file, []) },
  'direct 4k writes': {
    limit: 'wiops',
    args: (file: string) => write(file, operationsAMoment, direct),
  },
  'buffered 4k writes': {
    limit: 'wiops',
    args: (file: string) => write(file, operationsAMoment, buffered),
  },
} as const;
type Access = keyof typeof accesses;

const direct = ['oflag=direct', 'conv=notrunc'];
const buffered = ['conv=notrunc,fsync'];

function write(
  file: string,
  { block, count }: { readonly block: string; readonly count: number },
  how: readonly string[],
): readonly string[] {
  return ['dd', 'if=/dev/zero', `of=${file}`, `bs=${block}`, `count=${count}`, ...how];
}

function read(file: string, how: readonly string[]): readonly string[] {
  const { block, count } = bytesAMoment;
  return ['dd', `if=${file}`, 'of=/dev/null', `bs=${block}`, `count=${count}`, ...how];
}

/**
 * Whether the access must be limited. `undefined`: the result is only printed, since it depends on how the kernel merges writeback,
 * or on which cgroup it charges for the pages of a device that the driver also has open. A loop device that does buffered I/O
 * completes a write before its data is on the disk, so a limit on the disk does not slow a program that does not call fsync.
 */
function isLimited(volume: VolumeKind, place: Place, access: Access): boolean | undefined {
  if (place === 'none') return false;
  if (access === 'buffered 4k writes') return undefined;
  if (volume.kind === 'block' && access === 'buffered write') return undefined;
  const isLate = !volume.directIo && place === 'disk';
  return !(isLate && (access === 'direct write' || access === 'direct 4k writes'));
}

const diskOfPool = (): Promise<string> => realpath('/dev/vm/pool');

/** Runs a test whose pool has its own disk. */
async function onDisk(
  t: ExecutionContext,
  run: (fixture: NodeFixture) => Promise<void>,
): Promise<void> {
  const runLong = async (fixture: NodeFixture): Promise<void> => {
    t.timeout(20 * 60_000);
    await run(fixture);
  };
  await withFixture(t, runLong, {
    preparePool: async (directory) => {
      await execa('mke2fs', ['-q', '-F', '-t', 'ext4', '/dev/vm/pool']);
      await mkdir(join(directory, 'pool'));
      await execa('mount', ['/dev/vm/pool', join(directory, 'pool')]);
    },
  });
}

async function publish(
  t: ExecutionContext,
  fixture: NodeFixture,
  name: string,
  volume: VolumeKind,
): Promise<{ readonly file: string; readonly device: string }> {
  const { kind, directIo } = volume;
  const options = { sizeBytes: sizesMiB[kind] * MiB, parameters: { directIO: String(directIo) } };
  t.deepEqual(await fixture.create(name, kind, options), ok);
  t.deepEqual(await fixture.stage(name, kind), ok);
  t.deepEqual(await fixture.publish(name, kind), ok);
  const [device = ''] = await fixture.devicesOf(name);
  const dio = await readFile(`/sys/block/${basename(device)}/loop/dio`, 'utf8');
  t.is(dio.trim(), directIo ? '1' : '0');
  const target = fixture.targetOf(name);
  return { device, file: kind === 'block' ? target : join(target, 'file') };
}

async function endUse(t: ExecutionContext, fixture: NodeFixture, name: string): Promise<void> {
  t.deepEqual(await fixture.unpublish(name), ok);
  t.deepEqual(await fixture.unstage(name), ok);
}

/** Drops the page cache, and then loads the program into it again. */
async function forgetCaches(): Promise<void> {
  await execa('sync');
  await writeFile('/proc/sys/vm/drop_caches', '3');
  await execa('dd', ['--version']);
}

async function measure(pod: LimitedPod, access: Access, file: string): Promise<number> {
  await forgetCaches();
  return pod.run(accesses[access].args(file));
}

/** Runs one access with one limit, or with none, and returns its duration. */
async function measureLimited(
  pod: LimitedPod,
  { access, file, device }: { access: Access; file: string; device: string | undefined },
): Promise<number> {
  if (device !== undefined) await pod.limit(device, limits[accesses[access].limit]);
  try {
    return await measure(pod, access, file);
  } finally {
    if (device !== undefined) await pod.unlimit(device);
  }
}

for (const volume of kinds) {
  test.serial(
    `${volume.title}: its rate is measured without a limit and with limits for its loop device and the disk`,
    async (t) => {
      await onDisk(t, async (fixture) => {
        const pod = await LimitedPod.make('limited');
        const { file, device } = await publish(t, fixture, 'v', volume);
        // In the pod, not by root: writeback is charged to the cgroup that wrote first to the file, or to a device that stays open.
        await pod.run(write(file, bytesAMoment, buffered));
        const devices = { none: undefined, 'loop device': device, disk: await diskOfPool() };
        for (const place of places) {
          for (const access of Object.keys(accesses) as Access[]) {
            const ms = await measureLimited(pod, { access, file, device: devices[place] });
            t.log(row(volume, place, access, ms));
            const expected = isLimited(volume, place, access);
            if (expected === undefined) continue;
            t.is(ms > limitedMs * 0.75, expected, `${place}, ${access}: ${Math.round(ms)} ms`);
          }
        }
        for (const one of [device, await diskOfPool()]) {
          t.true(
            (await pod.writtenBytes(one)) >= Number(2n * bytesAMoment.bytes),
            `io.stat: ${one}`,
          );
        }
        await endUse(t, fixture, 'v');
        await pod.remove();
      });
    },
  );
}

function row(volume: VolumeKind, place: Place, access: Access, ms: number): string {
  const limit = place === 'none' ? '' : ` ${accesses[access].limit}`;
  return `${volume.title} | ${place}${limit} | ${access} | ${(ms / 1000).toFixed(1)} s`;
}
