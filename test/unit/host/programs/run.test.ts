import { execFileSync } from 'node:child_process';
import { access, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { CommandError } from '../../../../src/host/errors.ts';
import { driverLane, onDisk } from '../../../../src/host/lane.ts';
import { LongProgramSlots } from '../../../../src/host/programs/long-program-slots.ts';
import {
  debianPackages,
  findProgram,
  makeProgramCheck,
  missingPrograms,
  programs,
} from '../../../../src/host/programs/programs.ts';
import { type EndedCommand, makeRun } from '../../../../src/host/programs/run.ts';
import { until } from '../../../helpers/until.ts';

/** e2fsck writes its version to standard error and exits with 0; for a missing file it exits with 8. */
const timeoutMs = 30_000;

test('an expected exit code is returned with the output', async (t) => {
  const run = makeRun();
  const version = await run(driverLane, 'e2fsck', ['-V'], { timeoutMs });
  t.is(version.exitCode, 0);
  t.regex(version.stderr, /^e2fsck \d/);
  const absent = await run(driverLane, 'e2fsck', ['-n', '/nonexistent/image'], {
    timeoutMs,
    exitCodes: [0, 8],
  });
  t.is(absent.exitCode, 8);
});

test('an unexpected exit code is a CommandError with the end of standard error', async (t) => {
  const error = await t.throwsAsync(
    makeRun()(driverLane, 'e2fsck', ['-n', '/nonexistent/image'], { timeoutMs }),
    {
      instanceOf: CommandError,
    },
  );
  t.is(error?.exitCode, 8);
  t.is(error?.file, 'e2fsck');
  t.regex(error?.stderr ?? '', /No such file/);
  t.regex(error?.message ?? '', /^e2fsck exited with code 8: e2fsck: No such file or directory/);
});

test('a program aborted before its turn never runs', async (t) => {
  const ended: EndedCommand[] = [];
  const run = makeRun({ onEnd: (command) => ended.push(command) });
  await t.throwsAsync(
    run(driverLane, 'e2fsck', ['-V'], { timeoutMs, signal: AbortSignal.abort() }),
    {
      instanceOf: CommandError,
      message: /cancelled/,
    },
  );
  t.deepEqual(ended, []);
});

/** tune2fs opens its image first, and blocks there on a FIFO without a writer. */
async function withFifo(work: (fifo: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-run-'));
  const fifo = join(directory, 'fifo');
  execFileSync('mkfifo', [fifo]);
  try {
    await work(fifo);
  } finally {
    await rm(directory, { recursive: true });
  }
}

test('a program is ended at its time limit', async (t) => {
  await withFifo(async (fifo) => {
    const error = await t.throwsAsync(
      makeRun()(driverLane, 'tune2fs', ['-l', fifo], { timeoutMs: 300 }),
      {
        instanceOf: CommandError,
        message: 'tune2fs took longer than 300 ms and was killed',
      },
    );
    t.is(error?.exitCode, undefined);
  });
});

test('a running program is ended when its signal is aborted', async (t) => {
  await withFifo(async (fifo) => {
    const abort = new AbortController();
    const running = makeRun()(driverLane, 'tune2fs', ['-l', fifo], {
      timeoutMs,
      signal: abort.signal,
    });
    setTimeout(() => abort.abort(), 100);
    await t.throwsAsync(running, { instanceOf: CommandError, message: 'tune2fs was cancelled' });
  });
});

test('the end of every program is reported, also if it fails', async (t) => {
  const ended: EndedCommand[] = [];
  const run = makeRun({ onEnd: (command) => ended.push(command) });
  await run(driverLane, 'e2fsck', ['-V'], { timeoutMs });
  await t.throwsAsync(run(driverLane, 'e2fsck', ['-n', '/nonexistent/image'], { timeoutMs }));
  t.deepEqual(
    ended.map(({ file, args, exitCode }) => [file, args, exitCode]),
    [
      ['e2fsck', ['-V'], 0],
      ['e2fsck', ['-n', '/nonexistent/image'], 8],
    ],
  );
  t.true(ended.every(({ durationMs }) => durationMs > 0));
});

test('arguments reach the program unchanged: no shell, no splitting', async (t) => {
  const error = await t.throwsAsync(
    makeRun()(driverLane, 'e2fsck', ['-n', '/nonexistent/a b;$(id)`*'], { timeoutMs }),
    {
      instanceOf: CommandError,
    },
  );
  t.true(error?.stderr.includes('/nonexistent/a b;$(id)`*'));
});

test('the search for programs runs once, and again while one is missing', async (t) => {
  const answers = [['e2fsck'], [], ['tune2fs'], []] as const;
  let looks = 0;
  let nowMs = 0;
  const missing = makeProgramCheck(
    async () => answers[looks++] ?? [],
    () => nowMs,
  );
  t.deepEqual(await missing(), ['e2fsck']);
  t.deepEqual(await missing(), []);
  t.deepEqual(await missing(), []);
  t.is(looks, 2);
  nowMs += 61_000;
  t.deepEqual(await missing(), ['tune2fs']);
  t.deepEqual(await Promise.all([missing(), missing()]), [[], []]);
  t.is(looks, 4);
});

test('every program is installed and has a package', async (t) => {
  t.deepEqual(await missingPrograms(), []);
  t.regex((await findProgram('e2fsck')) ?? '', /\/e2fsck$/);
  t.deepEqual(debianPackages, ['btrfs-progs', 'coreutils', 'e2fsprogs', 'util-linux', 'xfsprogs']);
  t.true(Object.keys(programs).length > 0);
});

test('a long program that the caller gave a slot takes no other, and an abort ends the wait for one', async (t) => {
  await withFifo(async (fifo) => {
    const run = makeRun({ maxConcurrent: 1 });
    const slots = new LongProgramSlots();
    const [end, leave] = [new AbortController(), new AbortController()];
    const start = ({ signal }: AbortController, lane = driverLane) =>
      slots.take(
        lane,
        (freeSlot) => run(lane, 'tune2fs', ['-l', fifo], { timeoutMs, signal, freeSlot }),
        signal,
      );
    const running = Array.from({ length: 2 }, () => t.throwsAsync(start(end)));
    const waiting = reasonThrown(start(leave));
    leave.abort(new Error('gone'));
    t.is(await waiting, 'gone');
    const otherDisk = new AbortController();
    const beside = t.throwsAsync(start(otherDisk, onDisk(driverLane, 'other')), {
      message: 'tune2fs was cancelled',
    });
    otherDisk.abort();
    await beside;
    let hasEnded = false;
    void Promise.race(running).then(() => {
      hasEnded = true;
    });
    t.is((await run(driverLane, 'e2fsck', ['-V'], { timeoutMs })).exitCode, 0);
    t.false(hasEnded, 'the long programs still run');
    end.abort();
    await Promise.all(running);
  });
});

function reasonThrown(work: Promise<unknown>): Promise<unknown> {
  return work.then(
    () => undefined,
    (error: unknown) => (error instanceof Error ? error.message : error),
  );
}

for (const [end, options] of [
  ['its signal was aborted', (signal: AbortSignal) => ({ timeoutMs, signal })],
  // Long enough for the shell to begin.
  ['its time limit passed', () => ({ timeoutMs: 3_000 })],
] as const) {
  test(`a program that runs on after ${end} gives its slot back, but its call waits for its end`, async (t) => {
    await withFifo(async (fifo) => {
      const run = makeRun({ maxConcurrent: 1, hungAfterMs: 50 });
      // The shell is killed. The process that it leaves keeps the output open, as a killed program does that the kernel blocks.
      const script = 'exec 9<>"$1"; (: >"$1.begun"; exec head -c 1 <&9 >&2) & exec sleep 600';
      const args = ['sh', '-c', script, 'sh', fifo];
      const abort = new AbortController();
      let hasEnded = false;
      const hung = t
        .throwsAsync(run(driverLane, 'setpriv', args, options(abort.signal)), {
          instanceOf: CommandError,
        })
        .then(() => {
          hasEnded = true;
        });
      const next = run(driverLane, 'e2fsck', ['-V'], { timeoutMs });
      await until('the process has begun that is left', async () =>
        access(`${fifo}.begun`).then(
          () => true,
          () => false,
        ),
      );
      abort.abort();
      t.is((await next).exitCode, 0);
      t.false(hasEnded);
      await writeFile(fifo, 'x');
      await hung;
    });
  });
}
