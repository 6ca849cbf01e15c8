import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { Socket } from 'node:net';
import { execPath } from 'node:process';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { KernelError } from '../errors.ts';
import type { Freeze, LoopDevice, Mounts } from '../host.ts';
import { type FreezeReport, lineReader, writeLine } from './protocol.ts';

export interface FreezeSubject {
  readonly target: string;
  readonly device: LoopDevice;
}

export interface FreezeOptions {
  readonly timeoutMs: number;
  /** Thaws the targets if the child ends first. */
  readonly mounts: Pick<Mounts, 'thaw'>;
}

/** How far the child may exceed the time limit of a freeze before it is considered hung and is killed. */
const graceMs = 10_000;

/** The callbacks and targets of one freeze. */
interface Session {
  readonly subjects: readonly FreezeSubject[];
  readonly mounts: Pick<Mounts, 'thaw'>;
  readonly onFrozen: () => void;
  /** Receives how many milliseconds everything was frozen, or the error. */
  readonly onEnd: (end: number | Error) => void;
}

/** The driver's side of the connection to the freeze child. */
export class FreezeChild {
  readonly #process: ChildProcessByStdio<Writable, Readable, null>;
  readonly #sessions = new Map<number, Session>();
  #nextId = 1;
  #isAlive = true;

  constructor() {
    const script = fileURLToPath(new URL('./freeze-child.js', import.meta.url));
    this.#process = spawn(execPath, [script], {
      // A separate session, so that signals to the driver's process group or terminal do not reach it.
      detached: true,
      cwd: '/',
      stdio: ['pipe', 'pipe', 'inherit'],
      // Each filesystem of a group may occupy a thread while it is being frozen.
      env: { UV_THREADPOOL_SIZE: '64' },
    });
    const read = lineReader<FreezeReport>((message) => {
      this.#handleReport(message);
    });
    this.#process.stdout.setEncoding('utf8').on('data', read);
    // When the child exits, writes to it fail too. The exit is handled below.
    this.#process.stdin.on('error', () => undefined);
    this.#process.on('error', () => void this.#handleEnd());
    this.#process.on('exit', () => void this.#handleEnd());
    this.#updateRefs();
  }

  get isAlive(): boolean {
    return this.#isAlive;
  }

  get pid(): number | undefined {
    return this.#process.pid;
  }

  get isBusy(): boolean {
    return this.#sessions.size > 0;
  }

  /** Freezes all targets or none; see `Freezer` in host.ts. */
  freeze(
    subjects: readonly FreezeSubject[],
    { timeoutMs, mounts }: FreezeOptions,
  ): Promise<Freeze> {
    const id = this.#nextId;
    this.#nextId += 1;
    return new Promise((resolve, reject) => {
      const ended = new Promise<number>((resolveEnd, rejectEnd) => {
        const timer = setTimeout(() => void this.#kill(), timeoutMs + graceMs).unref();
        this.#sessions.set(id, {
          subjects,
          mounts,
          onFrozen: () => {
            resolve({ thaw: () => this.#thaw(id, ended) });
          },
          onEnd: (end) => {
            clearTimeout(timer);
            this.#sessions.delete(id);
            this.#updateRefs();
            if (typeof end === 'number') resolveEnd(end);
            else {
              reject(end);
              rejectEnd(end);
            }
          },
        });
      });
      // The freeze may end before thaw() is called. thaw() then reports the error.
      ended.catch(() => undefined);
      this.#updateRefs();
      const targets = subjects.map(({ target, device: { path, majorMinor } }) => {
        return { target, device: { path, majorMinor } };
      });
      writeLine(this.#process.stdin, { request: 'freeze', id, targets, timeoutMs });
    });
  }

  /** Makes the child thaw everything that is still frozen, and exit. */
  close(): void {
    this.#isAlive = false;
    this.#process.stdin.end();
  }

  #thaw(id: number, ended: Promise<number>): Promise<number> {
    if (this.#sessions.has(id)) writeLine(this.#process.stdin, { request: 'thaw', id });
    return ended;
  }

  #handleReport(message: FreezeReport): void {
    const session = this.#sessions.get(message.id);
    if (session === undefined) return;
    switch (message.report) {
      case 'frozen':
        session.onFrozen();
        return;
      case 'failed': {
        const { call, errno, subject } = message.failure;
        session.onEnd(new KernelError(call, errno, subject));
        return;
      }
      case 'thawed':
        session.onEnd(message.expired ? expiredError(session) : message.frozenMs);
    }
  }

  /** Kills a child that exceeded the time limit, and thaws its targets from this process. */
  async #kill(): Promise<void> {
    this.#process.kill('SIGKILL');
    await this.#handleEnd();
  }

  /** Handles the end of the child. Its targets stay frozen until they are thawed here. */
  async #handleEnd(): Promise<void> {
    this.#isAlive = false;
    const sessions = [...this.#sessions.values()];
    this.#sessions.clear();
    const thaws = sessions.flatMap(({ subjects, mounts }) =>
      subjects.map(({ target, device }) => mounts.thaw(target, device)),
    );
    await Promise.allSettled(thaws);
    for (const session of sessions) {
      session.onEnd(
        new KernelError(
          'freeze',
          'ECHILD',
          `${targetsOf(session)} (the process that owned the freeze ended)`,
        ),
      );
    }
  }

  /** Lets the child keep this process alive only during a freeze. */
  #updateRefs(): void {
    const { stdin, stdout } = this.#process;
    const ends = [this.#process, ...[stdin, stdout].filter((end) => end instanceof Socket)];
    for (const end of ends) {
      if (this.isBusy) end.ref();
      else end.unref();
    }
  }
}

function expiredError(session: Session): KernelError {
  return new KernelError(
    'freeze',
    'ETIMEDOUT',
    `${targetsOf(session)} (thawed because the time limit passed)`,
  );
}

function targetsOf({ subjects }: Session): string {
  return subjects.map(({ target }) => target).join(', ');
}
