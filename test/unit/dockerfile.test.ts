import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { debianPackages } from '../../src/host/programs/programs.ts';
import { imageNode } from '../images/node.ts';

const root = join(import.meta.dirname, '..', '..', '..');

test('the image has the packages whose programs host/ runs, and no others', async (t) => {
  const dockerfile = await readFile(join(root, 'Dockerfile'), 'utf8');
  const install = /apt-get install --yes --no-install-recommends([^&]*)&&/.exec(dockerfile)?.[1];
  const named = (install ?? '').split(/[\s\\]+/).filter((word) => word !== '');
  t.deepEqual(named.sort(), [...debianPackages]);
});

test('the release of Node that is tested is the image’s', async (t) => {
  const dockerfile = await readFile(join(root, 'Dockerfile'), 'utf8');
  const [, major] = /^ARG NODE_IMAGE=\S+:(\d+)-/m.exec(dockerfile) ?? [];
  t.is(imageNode.split('.')[0], major);
});

test('production dependencies only, optional ones among them, and no architecture', async (t) => {
  const dockerfile = await readFile(join(root, 'Dockerfile'), 'utf8');
  const instructions = dockerfile.replaceAll(/^#.*$/gm, '');
  t.regex(instructions, /npm ci --omit=dev/);
  t.notRegex(instructions, /omit=optional/);
  t.notRegex(instructions, /amd64|x86_64|arm64|aarch64|--platform/);
  t.regex(instructions, /COPY --from=dependencies \/src\/node_modules/);
});
