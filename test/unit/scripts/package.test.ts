import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import * as v from 'valibot';
import { parse } from 'yaml';
import { nodePackages } from '../../../scripts/node-release.ts';
import { findPackageClosure } from '../../../scripts/package/closure.ts';
import { manPageMarkdown } from '../../../scripts/package/man-page.ts';
import { lockedVersion, packageUnit } from '../../../scripts/package/stage.ts';
import { unbundledPackages } from '../../../scripts/unbundled-packages.ts';
import { loadConfig } from '../../../src/config/load.ts';
import { flagOf, optionKeys } from '../../../src/config/options.ts';
import { debianPackages } from '../../../src/host/programs/programs.ts';

const root = join(import.meta.dirname, '..', '..', '..', '..');
const read = (path: string): Promise<string> => readFile(join(root, path), 'utf8');

test('the manual page has every command and option, without tables and links to pages', async (t) => {
  const page = manPageMarkdown({
    version: '1.2.3',
    date: '2026-01-31',
    commandLine: await read('docs/command-line.md'),
    configuration: await read('docs/configuration.md'),
  });
  for (const key of optionKeys) t.regex(page, new RegExp(`^\`${flagOf(key)}[ \`]`, 'm'));
  t.regex(page, /^`loopcsi volume create \[options\] <name>`\n: \w/m);
  t.regex(page, /^### `snapshot diff BASE \[TARGET\]`$/m);
  t.regex(page, /^`--guard-freeze-limit DURATION`\n: .*Default: `5m`\.$/m);
  t.notRegex(page, /^\|/m);
  t.notRegex(page, /\]\((?!https:)/);
});

test('the unit of the packages keeps the capabilities that docs/security.md names', async (t) => {
  const unit = packageUnit(await read('contrib/systemd/loopcsi.service'));
  t.regex(unit, /^ExecStart=\/usr\/bin\/loopcsi serve$/m);
  t.regex(unit, /^Documentation=man:loopcsi\(8\)$/m);
  const kept = /^CapabilityBoundingSet=(.*)$/m.exec(unit)?.[1]?.split(' ') ?? [];
  const page = await read('docs/security.md');
  const named = [...page.matchAll(/^\|[^|]*\| `(CAP_\w+)` \|/gm)].map(([, name]) => name ?? '');
  t.deepEqual([...kept].sort(), [...named].sort());
  t.is(kept.length, 9);
});

test('a unit without a line that must be replaced is an error', (t) => {
  t.throws(() => packageUnit('[Service]\nExecStart=/elsewhere serve\n'), { message: /ExecStart=/ });
});

test('the configuration file sets nothing, and its comments are valid settings', async (t) => {
  const text = await read('contrib/package/loopcsi.yaml');
  t.is(parse(text), null);
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-config-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const config = join(directory, 'loopcsi.yaml');
  await writeFile(config, text.replaceAll(/^#(?=\w+:| +- )/gm, ''));
  const [defaults, loaded] = [await loadConfig({}, {}), await loadConfig({ config }, {})];
  t.deepEqual(
    loaded.pools.map(({ name }) => name),
    ['default', 'fast'],
  );
  t.deepEqual({ ...loaded.pools[0] }, { ...defaults.pools[0] });
  const { pools: _pools, explicit, ...others } = loaded;
  t.like(defaults, others);
  t.deepEqual([...explicit].sort(), ['defaultFstype', 'defaultSize', 'httpAddress', 'pool']);
});

const nfpm = v.object({
  overrides: v.record(
    v.picklist(['deb', 'rpm']),
    v.object({ depends: v.array(v.string()), recommends: v.array(v.string()) }),
  ),
});

/** Of these, Debian's policy says that no package may depend on them without a version. */
const essential = ['coreutils', 'util-linux'];

test('both packages name the packages whose programs host/ runs', async (t) => {
  const { overrides } = v.parse(nfpm, parse(await read('contrib/package/nfpm.yaml')));
  const programs = new Set([...debianPackages, 'util-linux']);
  for (const name of essential) t.true(programs.has(name), name);
  const deb = overrides.deb?.depends ?? [];
  for (const name of programs) t.is(deb.includes(name), !essential.includes(name), name);
  // In Fedora, mount and losetup are in util-linux.
  const rpm = [...(overrides.rpm?.depends ?? []), ...(overrides.rpm?.recommends ?? [])];
  // RHEL and its derivatives have no btrfs.
  t.deepEqual(overrides.rpm?.recommends, ['btrfs-progs']);
  for (const name of programs) t.true(name === 'mount' || rpm.includes(name), name);
});

test('package-lock.json has a checksum of the library of koffi for each processor', async (t) => {
  for (const arch of Object.keys(nodePackages)) {
    const { version, integrity } = await lockedVersion(root, `@koromix/koffi-linux-${arch}`);
    t.is(version, (await lockedVersion(root, 'koffi')).version);
    t.regex(integrity, /^sha512-/);
  }
});

test('the closure has dependencies of dependencies, and no package that was not asked for', async (t) => {
  const names = (await findPackageClosure(root, unbundledPackages)).map(({ name }) => name);
  for (const name of [...unbundledPackages, 'cross-spawn', 'which', 'isexe'])
    t.true(names.includes(name), name);
  t.false(names.includes('@grpc/grpc-js'));
  await t.throwsAsync(findPackageClosure(root, ['not-installed']), { message: /npm ci/ });
});
