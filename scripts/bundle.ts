/**
 * Bundles the compiled driver and its packages into a few files in dist/bundle/, which bin/loopcsi starts: resolving and reading
 * about 300 small modules took half of the time to the first Probe. Identifiers are not renamed, so that stacks stay readable.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';

const root = join(import.meta.dirname, '..', '..');
const outdir = join(root, 'dist', 'bundle');

rmSync(outdir, { recursive: true, force: true });
const { metafile } = await build({
  metafile: true,
  absWorkingDir: root,
  // Programs that are started by path. Splitting keeps the lazy imports lazy.
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
  external: [
    // Loads its compiled library from its own directory.
    'koffi',
    // grpc-js imports it only for channelz, which is off.
    '@grpc/proto-loader',
    // Imported lazily: a bundled import() of a CommonJS package lacks the named exports that Node detects.
    'cli-table3',
    'execa',
    'prom-client',
    'yaml',
  ],
  minifyWhitespace: true,
  sourcemap: true,
  sourcesContent: false,
  legalComments: 'inline',
  logLevel: 'warning',
  // CommonJS packages load Node's modules with require(), which does not exist in an ES module.
  banner: {
    js: "import { createRequire as requireFrom } from 'node:module'; const require = requireFrom(import.meta.url);",
  },
});

// With --enable-source-maps Node also reads the map of each file, which takes as long as the file itself. Stacks rarely point
// into packages, so the maps of files that mostly contain packages are removed.
for (const [file, { bytes, inputs }] of Object.entries(metafile.outputs)) {
  const ours = Object.entries(inputs).filter(([input]) => !input.startsWith('node_modules/'));
  const ourBytes = ours.reduce((sum, [, { bytesInOutput }]) => sum + bytesInOutput, 0);
  if (!file.endsWith('.js') || ourBytes * 2 > bytes) continue;
  const path = join(root, file);
  writeFileSync(path, readFileSync(path, 'utf8').replace(/^\/\/# sourceMappingURL=.*$/m, ''));
  rmSync(`${path}.map`, { force: true });
}
