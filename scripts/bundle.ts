/**
 * Bundles the compiled driver and its packages into a few files in dist/bundle/, which bin/loopcsi runs. Without the bundle,
 * resolving and reading about 300 small modules takes half of the time from start to the first Probe. Identifiers are not renamed,
 * so that stack traces stay readable.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';
import { unbundledPackages } from './unbundled-packages.ts';

const root = join(import.meta.dirname, '..', '..');
const outdir = join(root, 'dist', 'bundle');

rmSync(outdir, { recursive: true, force: true });
const { metafile } = await build({
  metafile: true,
  absWorkingDir: root,
  // Files that are started by path. Splitting preserves lazy imports.
  entryPoints: {
    main: 'dist/src/main.js',
    'freeze-child': 'dist/src/host/freeze/freeze-child.js',
  },
  outdir,
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  // grpc-js imports @grpc/proto-loader only for channelz, which is disabled.
  external: [...unbundledPackages, '@grpc/proto-loader'],
  minifyWhitespace: true,
  sourcemap: true,
  sourcesContent: false,
  legalComments: 'inline',
  logLevel: 'warning',
  // CommonJS packages load Node's modules with require(), which ES modules lack.
  banner: {
    js: "import { createRequire as requireFrom } from 'node:module'; const require = requireFrom(import.meta.url);",
  },
});

// With --enable-source-maps, Node also reads each file's source map, which doubles the loading time. Stack traces rarely point into
// packages, so the maps of files that mostly contain packages are removed.
for (const [file, { bytes, inputs }] of Object.entries(metafile.outputs)) {
  const ours = Object.entries(inputs).filter(([input]) => !input.startsWith('node_modules/'));
  const ourBytes = ours.reduce((sum, [, { bytesInOutput }]) => sum + bytesInOutput, 0);
  if (!file.endsWith('.js') || ourBytes * 2 > bytes) continue;
  const path = join(root, file);
  writeFileSync(path, readFileSync(path, 'utf8').replace(/^\/\/# sourceMappingURL=.*$/m, ''));
  rmSync(`${path}.map`, { force: true });
}
