/** The text of /usr/share/doc/loopcsi/copyright: the licences of the driver and of everything that a package contains. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type InstalledPackage, readLicenses } from './closure.ts';

export interface CopyrightSources {
  /** The project's root, with its LICENSE. */
  readonly root: string;
  readonly packages: readonly InstalledPackage[];
  readonly node: { readonly version: string; readonly license: string };
}

const rule = '-'.repeat(78);

export async function makeCopyright({ root, packages, node }: CopyrightSources): Promise<string> {
  const own = await readFile(join(root, 'LICENSE'), 'utf8');
  const parts = [
    'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n' +
      'Upstream-Name: loopcsi\nSource: https://github.com/loopcsi/loopcsi\n\n' +
      'Files: *\nCopyright: the authors of loopcsi\nLicense: Apache-2.0\n' +
      ' On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.\n' +
      ' It follows below, with the licences of the software that is included.',
    own.trimEnd(),
  ];
  for (const one of packages) {
    const texts = await readLicenses(one.directory);
    const text = texts.length > 0 ? texts.map((each) => each.trimEnd()).join('\n\n') : noText;
    parts.push(`${one.name} ${one.version} (npm), license: ${one.license}\n\n${text}`);
  }
  parts.push(`Node.js ${node.version}, in /usr/lib/loopcsi/bin/node\n\n${node.license.trimEnd()}`);
  return `${parts.join(`\n\n${rule}\n\n`)}\n`;
}

const noText = 'The package contains no text of the license.';
