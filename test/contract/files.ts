import { mkdir, readdir, readFile, rm, stat, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { KernelError } from '../../src/host/errors.ts';
import { MiB } from '../../src/units.ts';
import { type ContractCase, errnoOf, never } from './contract-case.ts';

const errnoIn = (error: unknown): string | undefined =>
  error instanceof KernelError ? error.errno : undefined;

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
    name: 'files: a lock excludes a second one until it is released',
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
    name: 'files: texts are created once, replaced as a whole, and read in batches',
    run: async ({ host: { files }, directory, equal }) => {
      const [a, b] = [join(directory, 'a'), join(directory, 'b')];
      await files.writeNew(a, 'one');
      equal(await errnoOf(files.writeNew(a, 'two')), 'EEXIST');
      await files.replaceFile(a, 'two');
      await files.replaceFile(b, 'three', { durable: false });
      await files.overwrite(b, '3');
      equal([await files.readText(a), await files.readText(b)], ['two', '3']);
      equal(await errnoOf(files.readText(join(directory, 'no'))), 'ENOENT');
      const many = Array.from({ length: 40 }, (_, at) => (at % 2 === 0 ? a : join(b, 'no')));
      const ends = await files.readTexts(many);
      equal(
        ends.map((end) => (end.status === 'fulfilled' ? end.value : errnoIn(end.reason))),
        many.map((path) => (path === a ? 'two' : 'ENOTDIR')),
      );
      equal(await files.readTexts([]), []);
      await files.makeReadOnly(a);
      equal((await stat(a)).mode & 0o777, 0o400);
      await files.removeFile(a, b, a);
      equal(await files.list(directory), []);
    },
  },
  {
    name: 'files: the status of a path does not follow a symlink',
    run: async ({ host: { files }, directory, equal }) => {
      const [dir, file, link] = [join(directory, 'd'), join(directory, 'f'), join(directory, 'l')];
      await files.makeDirectory(join(dir, 'deep'));
      await files.makeDirectory(dir);
      equal(await errnoOf(files.makeNewDirectory(dir)), 'EEXIST');
      await writeFile(file, '12345');
      await symlink(join(directory, 'nowhere'), link);
      equal(
        [await files.exists(link), await files.exists(join(link, 'x')), await files.exists(dir)],
        [true, false, true],
      );
      equal([await files.exists(join(file, 'x')), await files.exists(`${dir}no`)], [false, false]);
      equal(await errnoOf(files.exists(join(directory, 'x'.repeat(256)))), 'ENAMETOOLONG');
      const found = await files.status(file);
      const { dev, ino, mtimeNs } = await stat(file, { bigint: true });
      equal(found, {
        kind: 'file',
        device: dev,
        inode: ino,
        sizeBytes: 5n,
        modifiedNs: mtimeNs,
        isMountPoint: false,
      });
      equal((await files.status(link)).kind, 'symlink');
      equal((await files.status('/dev/null')).kind, 'character-device');
      equal(
        (await files.listWithKinds(directory)).map(({ name, kind }) => `${name} ${kind}`).sort(),
        ['d directory', 'f file', 'l symlink'],
      );
      equal(
        [await files.isEmptyDirectory(dir), await files.isEmptyDirectory(join(dir, 'deep'))],
        [false, true],
      );
      equal(await errnoOf(files.removeDirectory(dir)), 'ENOTEMPTY');
    },
  },
  {
    name: 'files: a tree is removed without following its symlinks',
    run: async ({ host: { files }, directory, equal }) => {
      const [tree, outside] = [join(directory, 'tree'), join(directory, 'outside')];
      await mkdir(join(tree, 'a', 'b'), { recursive: true });
      await mkdir(outside);
      for (const path of [join(tree, 'f'), join(tree, 'a', 'b', 'f'), join(outside, 'f')]) {
        await writeFile(path, 'x');
      }
      await symlink(outside, join(tree, 'a', 'link'));
      await files.removeTree(tree);
      await files.removeTree(tree);
      equal(await readdir(directory), ['outside']);
      const link = join(directory, 'link');
      await symlink(outside, link);
      await files.removeTree(link);
      equal([await readdir(directory), await readdir(outside)], [['outside'], ['f']]);
      await files.removeTree(join(outside, 'f'));
      equal(await readdir(outside), []);
    },
  },
  {
    name: 'files: a file is removed in slices, and a missing one is fine',
    run: async ({ host, directory, equal }) => {
      const path = join(directory, 'big');
      await host.files.createImage(path, { sizeBytes: 5n * MiB, allocate: true });
      await host.files.removeInSlices(path, { sliceBytes: MiB, signal: never });
      equal(await errnoOf(host.files.imageStatus(path)), 'ENOENT');
      await host.files.removeInSlices(path, { sliceBytes: MiB, signal: never });
    },
  },
  {
    name: 'files: a sparse copy has the same content, and can be resumed',
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
