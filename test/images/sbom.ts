/**
 * Writes the software bill of materials of an image (CycloneDX 1.6): Debian packages, npm packages and the Node runtime. It is read
 * from the unpacked image, so it lists the installed packages, not the requested ones.
 */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { run } from '../../scripts/command.ts';

interface Component {
  readonly type: 'library' | 'application';
  readonly name: string;
  readonly version: string;
  readonly purl: string;
  readonly licenses?: readonly { readonly license: { readonly name: string } }[];
}

/** `root` contains the unpacked image. The list is sorted, so that the file is reproducible. */
export async function writeSbom(root: string, target: string): Promise<void> {
  const components = [
    ...(await debianPackages(root)),
    ...(await npmPackages(join(root, 'usr/lib/loopcsi/node_modules'))),
    await nodeRuntime(root),
  ].sort((a, b) => (a.purl < b.purl ? -1 : 1));
  const bill = { bomFormat: 'CycloneDX', specVersion: '1.6', version: 1, components };
  await writeFile(target, `${JSON.stringify(bill, null, 2)}\n`);
}

async function debianPackages(root: string): Promise<Component[]> {
  const table = await readFile(join(root, 'var/lib/dpkg/status'), 'utf8');
  return table.split('\n\n').flatMap((entry): Component[] => {
    const field = (name: string): string =>
      new RegExp(`^${name}: (.*)$`, 'm').exec(entry)?.[1]?.trim() ?? '';
    const [name, version, architecture] = [
      field('Package'),
      field('Version'),
      field('Architecture'),
    ];
    if (name === '' || !field('Status').endsWith(' installed')) return [];
    const purl = `pkg:deb/debian/${name}@${encodeURIComponent(version)}?arch=${architecture}`;
    return [{ type: 'library', name, version, purl }];
  });
}

async function npmPackages(modules: string): Promise<Component[]> {
  const manifests = (await readdir(modules, { recursive: true })).filter((path) =>
    /(^|\/node_modules\/)(@[^/]+\/)?[^/@][^/]*\/package\.json$/.test(path),
  );
  const found = new Map<string, Component>();
  for (const path of manifests) {
    const { name, version, license } = stringFields(await readFile(join(modules, path), 'utf8'));
    if (name === undefined || version === undefined) continue;
    const purl = `pkg:npm/${name.replace('@', '%40')}@${version}`;
    const licenses = license === undefined ? {} : { licenses: [{ license: { name: license } }] };
    found.set(purl, { type: 'library', name, version, purl, ...licenses });
  }
  return [...found.values()];
}

function stringFields(json: string): Readonly<Record<string, string | undefined>> {
  const parsed: unknown = JSON.parse(json);
  if (typeof parsed !== 'object' || parsed === null) return {};
  return Object.fromEntries(
    Object.entries(parsed).filter(([, value]) => typeof value === 'string'),
  );
}

async function nodeRuntime(root: string): Promise<Component> {
  const version = (await run('chroot', [root, 'node', '--version'])).trim().slice(1);
  return { type: 'application', name: 'node', version, purl: `pkg:generic/node@${version}` };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const [root, target] = process.argv.slice(2);
  if (root === undefined || target === undefined) {
    console.error('usage: node dist/test/images/sbom.js UNPACKED_IMAGE FILE');
    process.exit(2);
  }
  await writeSbom(root, target);
}
