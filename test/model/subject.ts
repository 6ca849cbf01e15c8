import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ownedBy } from '../../src/host/gate.ts';
import type { Host } from '../../src/host/host.ts';
import { createLog } from '../../src/observe/log.ts';
import { GiB } from '../../src/units.ts';
import type { FaultPoint } from '../../src/volumes/fault-points.ts';
import { nodeTagOf } from '../../src/volumes/ids.ts';
import { type OpenedVolumes, openVolumes } from '../../src/volumes/open.ts';
import { poolDefaults } from '../../src/volumes/pools/pool-settings.ts';
import { FakeHost } from '../helpers/fake-host.ts';
import { errorOf, type Subject } from './run.ts';

/** What lies outside the driver: it stays when the driver dies. */
export interface Node {
  readonly directory: string;
  readonly host: Host;
  readonly failNext: Subject['failNext'];
  readonly clearFailures: Subject['clearFailures'];
}

/** In memory where that can be: thousands of fsyncs would measure the disk. */
const place = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

/** A node in memory. Ends with `remove`. */
export async function fakeNode(options: {
  reflink: boolean;
}): Promise<Node & { remove(): Promise<void> }> {
  const directory = await mkdtemp(join(place, 'loopcsi-model-'));
  const host = new FakeHost({ reflink: options.reflink });
  return {
    directory,
    host,
    failNext: (failure) => {
      host.failNext(failure.name, errorOf(failure), { after: failure.after });
    },
    clearFailures: () => {
      host.watch.clearFailures();
    },
    remove: () => rm(directory, { recursive: true, force: true }),
  };
}

/** Points of work in the background, after the answer: a driver that stood still there could not even be closed. */
const inBackground: ReadonlySet<FaultPoint> = new Set<FaultPoint>(['trash:removed']);

/** A driver on that node. */
export async function subjectOn(node: Node): Promise<Subject & { close(): Promise<void> }> {
  let dead = false;
  let countdown = 0;
  let died = (): void => undefined;
  const open = async (): Promise<OpenedVolumes> => {
    // Each driver has its own life: the steps of one that is dead stay where they are.
    let isMine = true;
    const opened = await openVolumes({
      host: node.host,
      log: createLog({ level: 'silent' }),
      ownedBy,
      stateDir: join(node.directory, 'state'),
      settings: {
        nodeTag: nodeTagOf('model-node'),
        defaultFsType: 'ext4',
        defaultSizeBytes: GiB,
        ephemeral: { defaultBytes: GiB, maximumBytes: GiB, poolCapBytes: GiB },
        kubeletDir: undefined,
        maxVolumesPerNode: 100,
        guardFreezeLimitMs: 60_000,
      },
      pools: [
        {
          ...poolDefaults,
          name: 'default',
          path: join(node.directory, 'pool'),
          create: true,
          force: true,
          overcommitPerMille: 1_000_000,
        },
      ],
      reached: async (point) => {
        if (!isMine) await new Promise(() => undefined);
        if (countdown === 0 || inBackground.has(point)) return;
        countdown -= 1;
        if (countdown > 0) return;
        isMine = false;
        dead = true;
        died();
        await new Promise(() => undefined);
      },
    });
    return opened;
  };
  let opened = await open();
  return {
    directory: node.directory,
    host: node.host,
    opened: () => opened,
    failNext: node.failNext,
    clearFailures: node.clearFailures,
    dieAt: (nth) => {
      countdown = nth;
      return new Promise<void>((resolve) => {
        died = resolve;
      });
    },
    restart: async () => {
      countdown = 0;
      // What stands still cannot be waited for; what runs may end.
      await opened.close(dead ? 1 : 2_000);
      dead = false;
      opened = await open();
    },
    close: () => opened.close(dead ? 1 : 2_000),
  };
}
