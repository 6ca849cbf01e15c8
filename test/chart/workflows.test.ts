/** The linter of GitHub's workflows, built from the Go module proxy. No workflow is run. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { attempt, run } from '../../scripts/command.ts';
import { cached, hashInputs, projectRoot } from '../e2e/cluster/cache.ts';

const module = 'test/go/actionlint';

/** The linter's program. A build takes some 15 seconds and is cached. */
async function actionlint(): Promise<string> {
  const go = (args: readonly string[]): Promise<string> =>
    run('nice', ['go', ...args], { cwd: join(projectRoot, module), env: { CGO_ENABLED: '0' } });
  const key = await hashInputs([(await go(['env', 'GOVERSION', 'GOARCH'])).trim()], [module]);
  const directory = await cached('actionlint', key, async (draft) => {
    const flags = ['-mod=readonly', '-trimpath', '-buildvcs=false', '-o', `${draft}/`];
    await go(['build', ...flags, 'github.com/rhysd/actionlint/cmd/actionlint']);
  });
  return join(directory, 'actionlint');
}

test('the linter finds nothing in the workflows, and finds a mistake that is put into one', async (t) => {
  const program = await actionlint();
  const directory = join(projectRoot, '.github', 'workflows');
  const files = (await readdir(directory)).map((name) => join(directory, name));
  t.true(files.length >= 2);
  // With shellcheck the result would depend on whether it is installed.
  const clean = await attempt(program, ['-shellcheck=', '-pyflakes=', ...files]);
  t.is(clean.exitCode, 0, clean.stdout + clean.stderr);
  const wrong =
    'on: push\njobs: {a: {runs-on: ubuntu-24.04, steps: [{run: "echo ${{ matrix.a }}"}]}}\n';
  const found = await attempt(program, ['-shellcheck=', '-'], { input: wrong });
  t.is(found.exitCode, 1);
  t.regex(found.stdout, /property "a" is not defined/);
});
