/**
 * Puts the compiled driver and the packages it loads into a few files in dist/bundle/, which bin/loopcsi starts: reading and
 * resolving some 300 small modules was half of the time to the first Probe. Nothing is renamed, so that stacks stay readable.
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
  // What is started by name; the rest is split by what imports it, so that lazy imports stay lazy.
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
    // Finds its compiled part beside itself.
    'koffi',
    // Asked for only to serve channelz, which is off.
    '@grpc/proto-loader',
    // Loaded when they are needed: a bundled import() of CommonJS would lack the names that node gives it.
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
  // Packages in CommonJS ask for node's own modules by require(), which a module does not have.
  banner: {
    js: "import { createRequire as requireFrom } from 'node:module'; const require = requireFrom(import.meta.url);",
  },
});

// With --enable-source-maps node reads the map of each file that it loads, which takes as long as the file itself. Stacks
// lead through our own modules: the maps of files that are packages for the most part are not worth that.
for (const [file, { bytes, inputs }] of Object.entries(metafile.outputs)) {
  const ours = Object.entries(inputs).filter(([input]) => !input.startsWith('node_modules/'));
  const ourBytes = ours.reduce((sum, [, { bytesInOutput }]) => sum + bytesInOutput, 0);
  if (!file.endsWith('.js') || ourBytes * 2 > bytes) continue;
  const path = join(root, file);
  writeFileSync(path, readFileSync(path, 'utf8').replace(/^\/\/# sourceMappingURL=.*$/m, ''));
  rmSync(`${path}.map`, { force: true });
}
