/**
 * Puts the compiled driver and the packages it loads into a few files in dist/bundle/, which bin/loopcsi starts: reading and
 * resolving some 300 small modules was half of the time to the first Probe. Nothing is renamed, so that stacks stay readable.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';

const root = join(import.meta.dirname, '..', '..');
const outdir = join(root, 'dist', 'bundle');

rmSync(outdir, { recursive: true, force: true });
await build({
  absWorkingDir: root,
  // What is started by name; the rest is split by what imports it, so that lazy imports stay lazy.
  entryPoints: {
    main: 'dist/src/main.js',
    'freeze-child': 'dist/src/host/freeze-child.js',
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
