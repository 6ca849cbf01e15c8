import { open } from 'node:fs/promises';
import { type FsType, fsTypes, type Superblock } from '../../src/host/host.ts';

/** The superblock that the fake's `make` writes into an image. Copies and renames keep it, as they keep a real one. */
export interface FakeSuperblock extends Superblock {
  /** The damage that a check finds. */
  readonly damage: 'none' | 'repairable' | 'beyond';
  readonly hasLostAndFound: boolean;
  /** A program was killed while it changed the image; only `recover` may change it. */
  readonly isInterrupted: boolean;
}

const magic = 'loopcsi fake filesystem ';
const headBytes = 4096;

export async function readFakeSuperblock(imagePath: string): Promise<FakeSuperblock | undefined> {
  const handle = await open(imagePath, 'r');
  try {
    const head = Buffer.alloc(headBytes);
    await handle.read(head, 0, headBytes, 0);
    const text = head.toString('utf8').replace(/\0+$/, '');
    if (!text.startsWith(magic)) return undefined;
    // Written by writeFakeSuperblock below.
    const fields = JSON.parse(text.slice(magic.length)) as Record<string, string | boolean>;
    const fsType = fsTypes.find((type) => type === fields['fsType']);
    if (fsType === undefined) return undefined;
    return {
      fsType,
      uuid: String(fields['uuid']),
      sizeBytes: BigInt(String(fields['sizeBytes'])),
      state: oneOf(['clean', 'needs-replay', 'has-errors'] as const, fields['state']),
      maxSectorSize: 4096,
      damage: oneOf(['none', 'repairable', 'beyond'] as const, fields['damage']),
      hasLostAndFound: fields['hasLostAndFound'] === true,
      isInterrupted: fields['isInterrupted'] === true,
    };
  } finally {
    await handle.close();
  }
}

export async function writeFakeSuperblock(
  imagePath: string,
  superblock: FakeSuperblock,
): Promise<void> {
  const handle = await open(imagePath, 'r+');
  try {
    const head = Buffer.alloc(headBytes);
    head.write(magic + JSON.stringify({ ...superblock, sizeBytes: String(superblock.sizeBytes) }));
    await handle.write(head, 0, headBytes, 0);
  } finally {
    await handle.close();
  }
}

export async function changeFakeSuperblock(
  imagePath: string,
  change: Partial<Omit<FakeSuperblock, 'fsType'>> & { fsType?: FsType },
): Promise<void> {
  const present = await readFakeSuperblock(imagePath);
  if (present === undefined) throw new Error(`${imagePath} has no filesystem`);
  await writeFakeSuperblock(imagePath, { ...present, ...change });
}

function oneOf<T extends string>(values: readonly T[], value: unknown): T {
  const found = values.find((one) => one === value);
  if (found === undefined) throw new Error(`unknown value in a fake superblock: ${String(value)}`);
  return found;
}
