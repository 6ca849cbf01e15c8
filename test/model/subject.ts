import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CommandError, KernelError } from '../../src/host/errors.ts';
import type { Host } from '../../src/host/host.ts';
import { nodeTagOf } from '../../src/ids.ts';
import { createLog } from '../../src/observe/log.ts';
import { GiB } from '../../src/units.ts';
import type { FaultPoint } from '../../src/volumes/engine/fault-points.ts';
import { type OpenDeps, type OpenedVolumes, openVolumes } from '../../src/volumes/open.ts';
import { poolDefaults } from '../../src/volumes/pool/settings.ts';
import { FakeHost } from '../helpers/fake-host.ts';
import type { FakePrograms } from '../helpers/fake-programs.ts';
import type { OtherSoftware } from '../helpers/other-software.ts';
import { fakeMarks, type Marks } from './marks.ts';
import { startMs } from './model.ts';
import type { Failure, SnapshotName, VolumeName } from './steps.ts';

/** The driver under test, which a step can make fail, kill and start again. */
export interface Subject {
  readonly directory: string;
  readonly host: Host;
  readonly otherSoftware: OtherSoftware;
  readonly marks: Marks;
  /** Devices whose filesystems are frozen. */
  readonly frozen: () => readonly number[];
  /** The name that callers use for a volume or snapshot. */
  readonly nameOf: (name: SnapshotName | VolumeName) => string;
  readonly opened: () => OpenedVolumes;
  /** Sets the driver's clock, which does not advance. */
  readonly setClock: (nowMs: number) => void;
  /** Makes the next call of the host with that name fail. */
  readonly failNext: (failure: Failure) => void;
  /** Makes the n-th call of the host from now on, and the `times - 1` after it, fail. */
  readonly failNth: (nth: number, errno: string, times: number) => void;
  /** Makes the next call of the host with that name hang until the returned function is called; `met` is called when it hangs. */
  readonly hangNext: (name: string, met: () => void) => () => void;
  readonly clearFailures: () => void;
  /** Stops the driver forever at its n-th fault point from now on, like a kill. Resolves when that has happened. */
  readonly killAt: (nth: number) => Promise<void>;
  /** Makes the next program outlive its driver; undefined on nodes that cannot simulate it. */
  readonly outliveNext: FakePrograms['outliveNext'] | undefined;
  /** Opens another driver with a pool of that name and the same state directory. */
  readonly openBeside: (pool: string) => Promise<OpenedVolumes>;
  /** Stops the driver forever at its next fault point. */
  readonly kill: () => void;
  /** Starts a new driver on the state that the old one left. */
  readonly restart: () => Promise<void>;
}

/** The error that a failing host call throws. */
export function errorOf({ name, errno }: Failure): Error {
  if (errno === 'program')
    return new CommandError(name, { message: `${name} ended with 1`, exitCode: 1 });
  return new KernelError(name, errno, 'a test');
}

/** The state outside the driver, which outlives it. */
export interface Node {
  readonly directory: string;
  readonly host: Host;
  readonly otherSoftware: OtherSoftware;
  readonly marks: Marks;
  readonly frozen: Subject['frozen'];
  readonly failNext: Subject['failNext'];
  readonly failNth: Subject['failNth'];
  readonly hangNext: Subject['hangNext'];
  readonly clearFailures: Subject['clearFailures'];
  readonly outliveNext: Subject['outliveNext'];
}

/** In memory if possible, because a disk would make thousands of fsyncs slow. */
const tempRoot = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

/** A node in memory. Call `remove` at its end. */
export async function fakeNode(options: {
  reflink: boolean;
  canGrowExt4Online?: boolean;
}): Promise<Node & { remove(): Promise<void> }> {
  const directory = await mkdtemp(join(tempRoot, 'loopcsi-model-'));
  const host = new FakeHost(options);
  return {
    directory,
    host,
    otherSoftware: host.otherSoftware,
    marks: fakeMarks(host.kernel),
    frozen: () =>
      [...host.kernel.devices.values()]
        .filter(({ live }) => live?.frozen === true)
        .map(({ number }) => number),
    failNext: (failure) => {
      host.failNext(failure.name, errorOf(failure), { after: failure.after });
    },
    failNth: (nth, errno, times) => {
      host.watch.failNth(nth, (name) => new KernelError(name, errno, 'a test'), { times });
    },
    hangNext: (name, met) => host.watch.hangNext(name, met),
    clearFailures: () => {
      host.watch.clearFailures();
    },
    outliveNext: () => host.programs.outliveNext(),
    remove: () => rm(directory, { recursive: true, force: true }),
  };
}

/** Fault points of background work, after the answer. A driver that stops there could not be closed. */
const isInBackground = (point: FaultPoint): boolean => /^(?:trash|copy):/.test(point);

/** Names of one letter, or names of the maximum length that an id contains in full, which differ only in the last letter. */
export type Names = 'short' | 'long';

const maxNameLength = 100;

/** Opens a driver on that node. */
export async function subjectOn(
  node: Node,
  names: Names = 'short',
): Promise<Subject & { close(): Promise<void> }> {
  let dead = false;
  let nowMs = startMs;
  let countdown = 0;
  let killed = (): void => undefined;
  let kill = (): void => undefined;
  const openPool = (
    { name, directory }: { name: string; directory: string },
    options: Partial<OpenDeps> = {},
  ): Promise<OpenedVolumes> =>
    openVolumes({
      host: node.host,
      log: createLog({ level: 'silent' }),
      now: () => nowMs,
      stateDir: join(node.directory, 'state'),
      settings: {
        nodeTag: nodeTagOf('model-node'),
        defaultFsType: 'ext4',
        defaultSizeBytes: GiB,
        ephemeral: { defaultBytes: GiB, maximumBytes: GiB, poolCapBytes: GiB },
        withoutStaging: false,
        maxVolumesPerNode: 100,
        guardFreezeLimitMs: 60_000,
        groupFreezeLimitMs: 10_000,
        trimBytesPerSecond: 1024n ** 4n,
        transfers: { parallel: 2, bytesPerSecond: 0n },
      },
      kubeletDir: undefined,
      pools: [
        {
          ...poolDefaults,
          name,
          path: join(node.directory, directory),
          create: true,
          force: true,
          overcommitPerMille: 1_000_000,
        },
      ],
      ...options,
    });
  const open = async (): Promise<OpenedVolumes> => {
    // Each driver has its own flag: calls of a killed driver never continue, even when a new driver runs.
    let isAlive = true;
    kill = () => {
      isAlive = false;
      dead = true;
    };
    const opened = await openPool(
      { name: 'default', directory: 'pool' },
      {
        reached: async (point) => {
          if (isInBackground(point)) return;
          if (!isAlive) await new Promise(() => undefined);
          if (countdown === 0) return;
          countdown -= 1;
          if (countdown > 0) return;
          kill();
          killed();
          await new Promise(() => undefined);
        },
      },
    );
    return opened;
  };
  let opened = await open();
  return {
    directory: node.directory,
    host: node.host,
    otherSoftware: node.otherSoftware,
    marks: node.marks,
    frozen: node.frozen,
    nameOf: (name) => (names === 'short' ? name : name.padStart(maxNameLength, 'n')),
    opened: () => opened,
    setClock: (ms) => {
      nowMs = ms;
    },
    failNext: node.failNext,
    failNth: node.failNth,
    hangNext: node.hangNext,
    clearFailures: node.clearFailures,
    killAt: (nth) => {
      countdown = nth;
      return new Promise<void>((resolve) => {
        killed = resolve;
      });
    },
    outliveNext: node.outliveNext,
    openBeside: (name) => openPool({ name, directory: name }),
    kill: () => {
      kill();
    },
    restart: async () => {
      countdown = 0;
      // Calls of a killed driver never end; calls of a running driver may end.
      await opened.close(dead ? 1 : 2_000);
      dead = false;
      opened = await open();
    },
    close: () => opened.close(dead ? 1 : 2_000),
  };
}
