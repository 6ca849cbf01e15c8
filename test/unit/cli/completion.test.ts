import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { execa } from 'execa';

const launcher = join(import.meta.dirname, '..', '..', '..', '..', 'bin', 'loopcsi');

/** The completions that bash offers for the last of these arguments. */
async function completed(script: string, ...args: readonly string[]): Promise<readonly string[]> {
  const program = [
    'source "$1"; shift',
    'COMP_WORDS=(loopcsi "$@"); COMP_CWORD=$#',
    '_loopcsi',
    'printf "%s\\n" "${COMPREPLY[@]}"',
  ].join('\n');
  const { stdout } = await execa('bash', ['-c', program, 'bash', script, ...args]);
  return stdout.split('\n').filter((candidate) => candidate !== '');
}

test('bash completes commands and flags, also after arguments and flag values', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-completion-'));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  const script = join(directory, 'script');
  await writeFile(script, (await execa(launcher, ['completion', 'bash'])).stdout);
  t.deepEqual(await completed(script, 'vol'), ['volume']);
  t.deepEqual(await completed(script, 'volume', 'exp'), ['expand']);
  t.deepEqual(await completed(script, 'volume', 'expand', '--s'), ['--size']);
  t.deepEqual(await completed(script, 'volume', 'expand', 'data', '--s'), ['--size']);
  t.deepEqual(await completed(script, 'volume', 'create', '--size', '1Gi', 'data', '--fs'), [
    '--fstype',
  ]);
  t.deepEqual(await completed(script, '--json', 'volume', 'unm'), ['unmount']);
  t.deepEqual(await completed(script, 'volume', 'delete', 'a', 'b', '--y'), ['--yes']);
});
