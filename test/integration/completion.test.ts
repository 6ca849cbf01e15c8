import { mkdir, mkdtemp, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { execa } from 'execa';
import { launcher } from '../helpers/command-line.ts';
import { startDriver } from '../helpers/driver.ts';
import { onNode } from '../helpers/on-node.ts';
import { removeAll } from '../helpers/scratch-pool.ts';
import { scaledMs } from '../helpers/slowness.ts';

/** Interactive shells without start-up files, and how each reads the completion. */
const shells = [
  { command: 'bash --norc -i', read: 'source <(loopcsi completion bash)' },
  { command: 'zsh -f -i', read: 'source <(loopcsi completion zsh)' },
  { command: 'fish --no-config -i', read: 'loopcsi completion fish | source' },
] as const;

/** Types on a terminal of a shell, and returns what the terminal shows. */
async function type(endpoint: string, command: string, input: string): Promise<string> {
  const { stdout } = await execa('script', ['--quiet', '--command', command, '/dev/null'], {
    input,
    reject: false,
    env: {
      LOOPCSI_ENDPOINT: `unix://${endpoint}`,
      PATH: `${dirname(launcher)}:${process.env['PATH'] ?? ''}`,
      TERM: 'dumb',
      NO_COLOR: '1',
    },
    timeout: scaledMs(30_000),
  });
  return stdout;
}

onNode('names and paths are completed by Tab in bash, zsh and fish', async (t) => {
  const directory = await mkdtemp('/var/tmp/loopcsi-completion-');
  t.teardown(() => removeAll(directory));
  const driver = await startDriver(directory, ['--http-address=off']);
  t.teardown(() => driver.stop());
  const run = (...args: readonly string[]) =>
    execa(launcher, args, { env: { LOOPCSI_ENDPOINT: `unix://${driver.endpoint}` } });
  await run('volume', 'create', 'postgres', '--size', '32Mi');
  await mkdir(join(directory, 'old-data'));
  await writeFile(join(directory, 'old-data', 'file'), 'x');
  await writeFile(join(directory, 'old-image'), Buffer.alloc(1024 * 1024));
  for (const { command, read } of shells) {
    const input = [
      read,
      'loopcsi volume get pos\t',
      'loopcsi volume clone pos\t copy --po\t defa\t',
      `loopcsi volume import a ${directory}/old-d\t --dry-run`,
      `loopcsi volume import b ${directory}/old-i\t --block --dry-run`,
      'exit',
      '',
    ].join('\r');
    const shown = await type(driver.endpoint, command, input);
    t.regex(shown, /Name: +postgres/, `${command}: ${shown}`);
    t.regex(shown, /Volume 'copy' was created from volume 'postgres'/, `${command}: ${shown}`);
    for (const path of ['old-data', 'old-image'])
      t.true(shown.includes(`${directory}/${path} can be imported`), `${command}: ${shown}`);
    await run('volume', 'delete', '--yes', 'copy');
  }
  await run('volume', 'delete', '--yes', 'postgres');
});
