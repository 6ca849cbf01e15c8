import { mkdir, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { MiB } from '../../src/units.ts';
import { type ContractCase, errnoOf, never } from './stage.ts';

export const fileCases: readonly ContractCase[] = [
  {
    name: 'files: an image is sparse or allocated, and grows but never shrinks',
    run: async ({ host, directory, equal }) => {
      const thin = join(directory, 'thin');
      await host.files.createImage(thin, { sizeBytes: 8n * MiB, allocate: false });
      equal((await host.files.imageStatus(thin)).allocatedBytes, 0n);
      equal((await stat(thin)).mode & 0o777, 0o600);
      equal(
        await errnoOf(host.files.createImage(thin, { sizeBytes: MiB, allocate: false })),
        'EEXIST',
      );
      await host.files.growImage(thin, { sizeBytes: 4n * MiB, allocate: false });
      equal((await host.files.imageStatus(thin)).sizeBytes, 8n * MiB);
      await host.files.growImage(thin, { sizeBytes: 9n * MiB, allocate: true });
      const { sizeBytes, allocatedBytes } = await host.files.imageStatus(thin);
      equal([sizeBytes, allocatedBytes >= 9n * MiB], [9n * MiB, true]);
    },
  },
  {
    name: 'files: renaming never replaces',
    run: async ({ host, directory, equal }) => {
      const [from, to] = [join(directory, 'from'), join(directory, 'to')];
      await mkdir(from);
      await mkdir(to);
      equal(await errnoOf(host.files.renameNoReplace(from, to)), 'EEXIST');
      await rm(to, { recursive: true });
      await host.files.renameNoReplace(from, to);
      equal(await errnoOf(host.files.renameNoReplace(from, to)), 'ENOENT');
      equal((await host.files.probe(directory)).renameNoReplace, true);
      equal(await readdir(directory), ['to']);
    },
  },
  {
    name: 'files: a lock is held once and can be taken again after its release',
    run: async ({ host, directory, equal }) => {
      const path = join(directory, 'lock');
      const lock = await host.files.lock(path);
      equal(await errnoOf(host.files.lock(path)), 'EAGAIN');
      await lock.release();
      await lock.release();
      await (await host.files.lock(path)).release();
    },
  },
  {
    name: 'files: removing in slices removes, and an absent file is no error',
    run: async ({ host, directory, equal }) => {
      const path = join(directory, 'big');
      await host.files.createImage(path, { sizeBytes: 5n * MiB, allocate: true });
      await host.files.removeInSlices(path, { sliceBytes: MiB, signal: never });
      equal(await errnoOf(host.files.imageStatus(path)), 'ENOENT');
      await host.files.removeInSlices(path, { sliceBytes: MiB, signal: never });
    },
  },
  {
    name: 'files: a sparse copy has the same bytes, and resumes',
    run: async ({ host, directory, equal }) => {
      const [from, to] = [join(directory, 'a'), join(directory, 'b')];
      await writeFile(
        from,
        Buffer.concat([Buffer.alloc(65_536, 1), Buffer.alloc(65_536), Buffer.alloc(4096, 2)]),
      );
      await truncate(from, 2 ** 20);
      const progress: bigint[] = [];
      const onProgress = (done: bigint) => void progress.push(done);
      await host.copies.copySparse(from, to, { signal: never, onProgress });
      equal(Buffer.compare(await readFile(from), await readFile(to)), 0);
      equal(progress.at(-1), 2n ** 20n);
      await host.copies.copySparse(from, to, { signal: never, resumeFrom: 65_536n });
      equal(Buffer.compare(await readFile(from), await readFile(to)), 0);
      equal(
        await errnoOf(host.copies.copySparse(from, to, { signal: never, resumeFrom: 2n ** 40n })),
        'EINVAL',
      );
    },
  },
];
