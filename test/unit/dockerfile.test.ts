import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { nodeRelease } from '../../scripts/node-release.ts';
import { debianPackages } from '../../src/host/programs/programs.ts';

const root = join(import.meta.dirname, '..', '..', '..');

test('the container image has the packages whose programs host/ runs, and no others', async (t) => {
  const dockerfile = await readFile(join(root, 'Dockerfile'), 'utf8');
  const install = /apt-get install --yes --no-install-recommends([^&]*)&&/.exec(dockerfile)?.[1];
  const named = (install ?? '').split(/[\s\\]+/).filter((word) => word !== '');
  t.deepEqual(named.sort(), [...debianPackages]);
});

test('the tests run on the Node release of the container image', async (t) => {
  const dockerfile = await readFile(join(root, 'Dockerfile'), 'utf8');
  const [, major] = /^ARG NODE_IMAGE=\S+:(\d+)-/m.exec(dockerfile) ?? [];
  t.is(nodeRelease.split('.')[0], major);
});

test('the container image has production dependencies only, including optional ones, for any architecture', async (t) => {
  const dockerfile = await readFile(join(root, 'Dockerfile'), 'utf8');
  const instructions = dockerfile.replaceAll(/^#.*$/gm, '');
  t.regex(instructions, /npm ci --omit=dev/);
  t.notRegex(instructions, /omit=optional/);
  t.notRegex(instructions, /amd64|x86_64|arm64|aarch64|--platform/);
  t.regex(instructions, /COPY --from=dependencies \/src\/node_modules/);
});
