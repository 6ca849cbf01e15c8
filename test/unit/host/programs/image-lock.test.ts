import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { execa } from 'execa';
import { ImageInUseError } from '../../../../src/host/errors.ts';
import { makeCopies } from '../../../../src/host/files/copy.ts';
import { makeFiles } from '../../../../src/host/files/files.ts';
import { driverLane } from '../../../../src/host/lane.ts';
import { lockImage, requireNoProgram } from '../../../../src/host/programs/image-lock.ts';
import { makeRun } from '../../../../src/host/programs/run.ts';
import { until } from '../../../helpers/until.ts';

async function imageOf(t: ExecutionContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-test-'));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  const image = join(directory, 'disk.img');
  await writeFile(image, 'an image');
  return image;
}

async function childrenNamed(name: string): Promise<readonly number[]> {
  const { pid } = process;
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'latin1');
  const found: number[] = [];
  for (const child of children.split(' ').filter(Boolean)) {
    const command = await readFile(`/proc/${child}/comm`, 'latin1').catch(() => '');
    if (command.trim() === name) found.push(Number(child));
  }
  return found;
}

test('a lock of an image excludes others until it is released', async (t) => {
  const image = await imageOf(t);
  await requireNoProgram(driverLane, image);
  const lock = await lockImage(driverLane, image);
  await t.throwsAsync(lockImage(driverLane, image), { instanceOf: ImageInUseError });
  await t.throwsAsync(requireNoProgram(driverLane, image), { instanceOf: ImageInUseError });
  await lock.release();
  await requireNoProgram(driverLane, image);
  await requireNoProgram(driverLane, join(image, '..', 'missing.img'));
});

test('a caller waits for a lock whose process is not visible', async (t) => {
  const image = await imageOf(t);
  const lock = await lockImage(driverLane, image);
  const next = lockImage(driverLane, image);
  await lock.release();
  await (await next).release();
  t.pass();
});

test('checks of an image do not exclude each other', async (t) => {
  const image = await imageOf(t);
  const looks = Array.from({ length: 8 }, () => requireNoProgram(driverLane, image));
  await t.notThrowsAsync(Promise.all(looks));
});

test('a program has the lock while it runs, and the error names it', async (t) => {
  const image = await imageOf(t);
  const fifo = join(image, '..', 'fifo');
  await execa('mkfifo', [fifo]);
  // It waits for a writer of the FIFO, with the image locked.
  const running = makeRun()(driverLane, 'tune2fs', ['-l', fifo], { timeoutMs: 60_000, image });
  running.catch(() => undefined);
  await until('it runs', async () => (await childrenNamed('tune2fs')).length > 0);
  const [pid] = await childrenNamed('tune2fs');
  const error = await t.throwsAsync(requireNoProgram(driverLane, image), {
    instanceOf: ImageInUseError,
  });
  t.deepEqual(error?.program, { name: 'tune2fs', pid });
  const files = makeFiles(driverLane);
  const options = { sizeBytes: 4096n, allocate: false };
  const removal = { sliceBytes: 4096n, signal: new AbortController().signal };
  const inUse = { instanceOf: ImageInUseError };
  await t.throwsAsync(files.growImage(image, options), inUse);
  await t.throwsAsync(files.removeInSlices(image, removal), inUse);
  await t.throwsAsync(makeCopies(driverLane).copySparse(image, `${image}.copy`, removal), inUse);
  await t.throwsAsync(makeCopies(driverLane).reflink(image, `${image}.copy`), inUse);
  const writer = await open(fifo, 'w');
  await writer.close();
  await t.throwsAsync(running);
  await requireNoProgram(driverLane, image);
});

/** The path of a module of host/ as a string literal. */
const hostModule = (path: string) =>
  JSON.stringify(join(import.meta.dirname, '../../../../src/host', path));

test('a program keeps the lock when its parent, which locked the image, is killed', async (t) => {
  const image = await imageOf(t);
  const script = `
    const { lockImage } = await import(${hostModule('programs/image-lock.js')});
    const { driverLane } = await import(${hostModule('lane.js')});
    const { spawn } = await import('node:child_process');
    const lock = await lockImage(driverLane, ${JSON.stringify(image)});
    const child = spawn('sleep', ['60'], { stdio: ['ignore', 'ignore', 'ignore', lock.fd], detached: true });
    console.log(child.pid);
    setInterval(() => undefined, 1000);`;
  const parent = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [text] = (await once(parent.stdout, 'data')) as [Buffer];
  const child = Number(text.toString());
  t.teardown(() => {
    try {
      process.kill(child, 'SIGKILL');
    } catch {
      // The process has ended.
    }
  });
  const ended = once(parent, 'exit');
  parent.kill('SIGKILL');
  await ended;
  const error = await t.throwsAsync(requireNoProgram(driverLane, image), {
    instanceOf: ImageInUseError,
  });
  t.deepEqual(error?.program, { name: 'sleep', pid: child });
  process.kill(child, 'SIGKILL');
  await until('it is free', () =>
    requireNoProgram(driverLane, image).then(
      () => true,
      () => false,
    ),
  );
  t.pass();
});

test('a missing path, or a path below a file, has no program', async (t) => {
  const image = await imageOf(t);
  await t.notThrowsAsync(requireNoProgram(driverLane, `${image}.other`));
  await t.notThrowsAsync(requireNoProgram(driverLane, join(image, 'disk.img')));
});
