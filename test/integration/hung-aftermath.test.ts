import { mkdir, mkdtemp, readdir, readlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import type { Files, Host } from '../../src/host/host.ts';
import { gate } from '../../src/host/kernel/gate.ts';
import { makeRealHost } from '../../src/host/real-host.ts';
import { type OpenedVolumes, openVolumes } from '../../src/volumes/open.ts';
import { poolDefaults } from '../../src/volumes/pool/settings.ts';
import { changedHost } from '../helpers/changed-host.ts';
import { fakeSettings, silent } from '../helpers/fake-node.ts';
import { onNode } from '../helpers/on-node.ts';
import { removeAll } from '../helpers/scratch-pool.ts';
import { StalledFuse } from '../helpers/stalled-fuse.ts';
import { until } from '../helpers/until.ts';

/** A pool on a filesystem that can be made to hang, opened in this process. */
class HungPool {
  readonly directory: string;
  readonly fuse: StalledFuse;
  readonly poolPath: string;

  private constructor(directory: string, fuse: StalledFuse) {
    this.directory = directory;
    this.fuse = fuse;
    this.poolPath = join(directory, 'pool');
  }

  static async make(t: ExecutionContext): Promise<HungPool> {
    t.timeout(4 * 60_000);
    const directory = await mkdtemp(join(tmpdir(), 'loopcsi-aftermath-'));
    const fuse = await StalledFuse.mount(directory);
    await mkdir(join(directory, 'state'));
    return new HungPool(directory, fuse);
  }

  open(host: Host): Promise<OpenedVolumes> {
    return openVolumes({
      host,
      log: silent,
      whenReturned: (lane) => gate.whenReturned(lane),
      stateDir: join(this.directory, 'state'),
      settings: fakeSettings,
      kubeletDir: undefined,
      pools: [{ ...poolDefaults, name: 'hung', path: this.poolPath, create: true, force: true }],
    });
  }

  /** Paths of the pool that this process has open. */
  async descriptors(): Promise<readonly string[]> {
    const numbers = await readdir('/proc/self/fd');
    const all = await Promise.all(
      numbers.map((number) => readlink(`/proc/self/fd/${number}`).catch(() => '')),
    );
    return all.filter((path) => path.startsWith(`${this.poolPath}/`) || path === this.poolPath);
  }

  async end(t: ExecutionContext): Promise<void> {
    this.fuse.resume();
    const left = await removeAll(this.directory);
    await this.fuse.ended();
    t.deepEqual(left, []);
  }
}

/** Makes the disk of `pool` hang right before or right after the first call with that name while the pool is opened. */
function stallingAt(pool: HungPool, name: keyof Files, when: 'before' | 'after'): Host {
  let isDone = false;
  return changedHost(makeRealHost(), (host) => {
    const files = new Proxy(host.files, {
      get: (target, key) => {
        const member: unknown = Reflect.get(target, key);
        if (key !== name || typeof member !== 'function') return member;
        return async (...args: readonly unknown[]): Promise<unknown> => {
          const isFirst = !isDone;
          isDone = true;
          if (isFirst && when === 'before') pool.fuse.stall();
          const result: unknown = await Reflect.apply(member, target, args);
          if (isFirst && when === 'after') pool.fuse.stall();
          return result;
        };
      },
    });
    return { files };
  });
}

for (const { what, name, when } of [
  { what: 'while it is locked', name: 'lock', when: 'before' },
  {
    what: 'between its lock and the check of its features',
    name: 'lock',
    when: 'after',
  },
] as const) {
  onNode(
    `a pool whose disk hangs ${what} is opened again by the same process, which leaves no file of it open`,
    async (t) => {
      const pool = await HungPool.make(t);
      const warnings: string[] = [];
      const onWarning = ({ message }: Error): void => void warnings.push(message);
      process.on('warning', onWarning);
      try {
        const opened = await pool.open(stallingAt(pool, name, when));
        try {
          const [first] = opened.domain.pools.all;
          t.false(first?.isServed);
          await until('the hang is reported', async () => gate.stuckCalls().length > 0, 90_000);
          pool.fuse.resume();
          // Only this process could have the lock.
          await until(
            'it is served',
            async () => {
              t.notRegex(first?.problem ?? '', /another loopcsi process/);
              return first?.isServed === true;
            },
            60_000,
          );
          t.deepEqual(gate.stuckCalls(), []);
        } finally {
          pool.fuse.resume();
          await opened.close(1_000);
        }
        t.deepEqual(await pool.descriptors(), []);
        // Then another driver opens it too.
        const again = await pool.open(makeRealHost());
        t.is(again.domain.pools.all[0]?.problem, undefined);
        await again.close(1_000);
        t.deepEqual([await pool.descriptors(), warnings], [[], []]);
      } finally {
        process.off('warning', onWarning);
        await pool.end(t);
      }
    },
  );
}

onNode('a driver that starts while a disk hangs leaves no file open', async (t) => {
  const pool = await HungPool.make(t);
  try {
    await (await pool.open(makeRealHost())).close(1_000);
    pool.fuse.stall();
    const opened = await pool.open(makeRealHost());
    try {
      await until('the hang is reported', async () => gate.stuckCalls().length > 0, 90_000);
      pool.fuse.resume();
      await until(
        'it is served',
        async () => opened.domain.pools.all[0]?.isServed === true,
        60_000,
      );
    } finally {
      pool.fuse.resume();
      await opened.close(1_000);
    }
    t.deepEqual(await pool.descriptors(), []);
  } finally {
    await pool.end(t);
  }
});
