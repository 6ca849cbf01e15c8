/** Runs the blocks of pages as a reader would paste them. */
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { attempt } from '../../scripts/command.ts';
import { isPromisedOutput, type PageBlock, pageBlocks } from './page-blocks.ts';

const root = join(import.meta.dirname, '..', '..', '..');

export interface PageShell {
  /** The prefix of the command that runs the shell, for other namespaces. */
  readonly enter?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
}

/** Returns the blocks of the page that the suite runs. */
export async function blocksOf(page: string, suite: string): Promise<readonly PageBlock[]> {
  const blocks = pageBlocks(page, await readFile(join(root, page), 'utf8'));
  return blocks.filter((block) => block.suite === suite);
}

/** Runs one block in the root of the repository. It must succeed, and print what the page promises. Returns its output. */
export async function runBlock(
  t: ExecutionContext,
  block: PageBlock,
  shell: PageShell,
): Promise<string> {
  const name = `${block.page}:${block.line}`;
  if (block.setUp !== undefined) await runCommands(t, `${name}, before it`, block.setUp, shell);
  const output = await runCommands(t, name, block.commands, shell);
  if (block.output !== undefined) {
    t.true(
      isPromisedOutput(block.output, output),
      `${name} promises\n${block.output}\nbut it prints\n${output}`,
    );
  }
  return output;
}

async function runCommands(
  t: ExecutionContext,
  name: string,
  commands: string,
  shell: PageShell,
): Promise<string> {
  const [file, ...args] = [
    ...(shell.enter ?? []),
    'bash',
    '-e',
    '-u',
    '-o',
    'pipefail',
    '-c',
    commands,
  ];
  const { exitCode, stdout, stderr } = await attempt(file, args, {
    cwd: root,
    timeoutMs: 300_000,
    ...(shell.environment === undefined ? {} : { env: shell.environment }),
  });
  t.is(exitCode, 0, `${name} failed:\n${commands}\n${stdout}\n${stderr}`);
  return stdout;
}

/** Makes programs that a page names without a path: each is a line of shell. Returns the directory for the PATH. */
export async function makePrograms(
  directory: string,
  programs: Readonly<Record<string, string>>,
): Promise<string> {
  const bin = join(directory, 'bin');
  await mkdir(bin, { recursive: true });
  for (const [name, line] of Object.entries(programs)) {
    const path = join(bin, name);
    await writeFile(path, `#!/bin/sh\n${line}\n`);
    await chmod(path, 0o755);
  }
  return bin;
}
