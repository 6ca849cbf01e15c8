/** Installs the Node of the image from npm, because this machine's may be another release. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { arch, platform } from 'node:process';
import { run } from '../../scripts/command.ts';
import { nodeRelease } from '../../scripts/node-release.ts';

/** Returns the path of the program. Needs npm and its registry. */
export async function installNode(directory: string): Promise<string> {
  const name = `node-${platform}-${arch}`;
  await writeFile(join(directory, 'package.json'), '{"private": true}\n');
  const install = ['install', '--no-audit', '--no-fund', '--prefix', directory];
  await run('npm', [...install, `${name}@${nodeRelease}`], { timeoutMs: 300_000 });
  return join(directory, nodeProgram);
}

/** Path of the program below the directory of `installNode`. */
export const nodeProgram = `node_modules/node-${platform}-${arch}/bin/node`;
