import { execa } from 'execa';
import { CommandError } from '../../src/host/errors.ts';
import { type ImageLock, lockImage } from '../../src/host/programs/image-lock.ts';
import type { Program } from '../../src/host/programs/programs.ts';
import { makeRun, type Run } from '../../src/host/programs/run.ts';

/** The system calls with which programs of e2fsprogs change a file. */
const changes = 'pwrite64,write,fallocate,ftruncate';

export interface Kill {
  readonly program: Program;
  /** The change, counted from 1, that SIGKILL prevents. */
  readonly at: number;
  /** The driver dies at the same moment: its call never returns. */
  readonly withDriver?: boolean;
}

/** A runner that uses strace to kill one run of one program before its n-th change of any file. Other programs run normally. */
export function makeKillingRun(kill: Kill): {
  readonly run: Run;
  /** Resolves when the program has been killed. */
  readonly killed: Promise<void>;
} {
  const plain = makeRun();
  let killed = false;
  const { promise, resolve } = withResolvers();
  const run: Run = async (lane, file, args, options) => {
    if (file !== kill.program || killed) return plain(lane, file, args, options);
    const lock = options.image === undefined ? undefined : await lockImage(lane, options.image);
    try {
      const result = await strace([file, ...args], kill.at, lock);
      // strace is ended by the same signal as its program.
      killed = result.signal === 'SIGKILL';
      if (killed) resolve();
      const { exitCode, stdout, stderr } = result;
      const expected: readonly number[] = options.exitCodes ?? [0];
      const answer = expected.find((one) => one === exitCode);
      if (answer === undefined || killed) {
        throw new CommandError(file, { message: `${file} was killed by SIGKILL`, stderr });
      }
      return { exitCode: answer, stdout, stderr };
    } finally {
      await lock?.release();
      if (killed && kill.withDriver === true) await new Promise(() => undefined);
    }
  };
  return { run, killed: promise };
}

function withResolvers(): { readonly promise: Promise<void>; readonly resolve: () => void } {
  let resolve = (): void => undefined;
  const promise = new Promise<void>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

function strace(command: readonly string[], at: number, lock: ImageLock | undefined) {
  const inject = `inject=${changes}:signal=KILL:when=${at}`;
  const args = ['-f', '-o', '/dev/null', '-e', `trace=${changes}`, '-e', inject, ...command];
  return execa('strace', args, {
    stdio: ['ignore', 'pipe', 'pipe', ...(lock === undefined ? [] : [lock.fd as 3])],
    reject: false,
  });
}
