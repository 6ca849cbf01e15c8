/** Downloads packages from npm that are not installed here, because they are for another processor or not a dependency. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as v from 'valibot';
import { run } from '../command.ts';

const packedShape = v.tuple([v.object({ filename: v.string(), integrity: v.string() })]);

export interface NpmTarball {
  readonly name: string;
  readonly version: string;
  /** The checksum, as in package-lock.json. */
  readonly integrity: string;
}

/** Downloads the package and unpacks it to `directory`. Throws an Error if its checksum is not the expected one. */
export async function unpackTarball(tarball: NpmTarball, directory: string): Promise<void> {
  const { name, version, integrity } = tarball;
  const scratch = await mkdtemp(join(tmpdir(), 'loopcsi-npm-'));
  try {
    const pack = ['pack', '--json', '--silent', `--pack-destination=${scratch}`];
    const output = await run('npm', [...pack, `${name}@${version}`], { timeoutMs: 600_000 });
    const [packed] = v.parse(packedShape, JSON.parse(output));
    if (packed.integrity !== integrity) {
      throw new Error(
        `${name}@${version} has the checksum ${packed.integrity}, but ${integrity} is expected; ` +
          'nothing was unpacked',
      );
    }
    await mkdir(directory, { recursive: true });
    const file = join(scratch, packed.filename);
    await run('tar', ['-xzf', file, '-C', directory, '--strip-components=1', '--no-same-owner']);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}
