/** Stores a pool with its images compactly, as JSON: a pool that an earlier version of the driver made is kept as a file. */
import { mkdir, open, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { deflateRawSync, inflateRawSync } from 'node:zlib';

const blockBytes = 4096;
/** Stands for the directory that contains the pool and the state directory, which has another path in each test. */
const placeholder = '@DIRECTORY@';

interface Archive {
  /** The commit of the driver that made the pool. */
  readonly commit: string;
  /** Texts of records and other small files, by their path. */
  readonly texts: Readonly<Record<string, string>>;
  readonly images: Readonly<Record<string, ArchivedImage>>;
}

interface ArchivedImage {
  readonly sizeBytes: number;
  readonly isReadOnly: boolean;
  /** Numbers of the blocks that are not zero, and their content, compressed. */
  readonly blocks: readonly number[];
  readonly content: string;
}

export async function packDirectory(directory: string, commit: string): Promise<Archive> {
  const texts: Record<string, string> = {};
  const images: Record<string, ArchivedImage> = {};
  for (const path of await filesIn(directory, '')) {
    const file = join(directory, path);
    if (/disk\.img(?:\.part)?$/.test(path)) images[path] = await packImage(file);
    else texts[path] = (await readFile(file, 'utf8')).replaceAll(directory, placeholder);
  }
  return { commit, texts, images };
}

/** Writes the files of an archive into an empty directory. */
export async function unpackArchive(archive: string, directory: string): Promise<void> {
  const { texts, images } = JSON.parse(await readFile(archive, 'utf8')) as Archive;
  for (const [path, text] of Object.entries(texts)) {
    const file = join(directory, path);
    await mkdir(dirname(file), { recursive: true, mode: 0o700 });
    await writeFile(file, text.replaceAll(placeholder, directory), { mode: 0o600 });
  }
  for (const [path, image] of Object.entries(images)) {
    await mkdir(dirname(join(directory, path)), { recursive: true, mode: 0o700 });
    await unpackImage(join(directory, path), image);
  }
}

async function filesIn(directory: string, below: string): Promise<readonly string[]> {
  const found: string[] = [];
  for (const entry of await readdir(join(directory, below), { withFileTypes: true })) {
    const path = join(below, entry.name);
    if (entry.isDirectory()) found.push(...(await filesIn(directory, path)));
    else if (entry.isFile()) found.push(path);
  }
  return found.sort();
}

async function packImage(path: string): Promise<ArchivedImage> {
  const content = await readFile(path);
  const blocks: number[] = [];
  for (let at = 0; at * blockBytes < content.length; at += 1) {
    if (blockOf(content, at).some((byte) => byte !== 0)) blocks.push(at);
  }
  const packed = deflateRawSync(Buffer.concat(blocks.map((at) => blockOf(content, at))), {
    level: 9,
  });
  const { mode } = await stat(path);
  return {
    sizeBytes: content.length,
    isReadOnly: (mode & 0o200) === 0,
    blocks,
    content: packed.toString('base64'),
  };
}

function blockOf(content: Buffer, at: number): Buffer {
  return content.subarray(at * blockBytes, (at + 1) * blockBytes);
}

async function unpackImage(path: string, image: ArchivedImage): Promise<void> {
  const content = inflateRawSync(Buffer.from(image.content, 'base64'));
  const handle = await open(path, 'wx', 0o600);
  try {
    await handle.truncate(image.sizeBytes);
    for (const [i, at] of image.blocks.entries()) {
      await handle.write(blockOf(content, i), 0, blockBytes, at * blockBytes);
    }
    if (image.isReadOnly) await handle.chmod(0o400);
  } finally {
    await handle.close();
  }
}
