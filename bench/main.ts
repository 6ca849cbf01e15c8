/**
 * `npm run bench [SECTION...]` measures the built driver and a baseline alternately in one run, and prints Markdown for
 * docs/benchmarks.md. Needs root, a C compiler and an otherwise idle machine.
 */
import { mkdir, mkdtemp } from 'node:fs/promises';
import { cpus, release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { removeAll } from '../test/helpers/scratch-pool.ts';
import { benchChangedBlocks } from './changed-blocks.ts';
import { benchController } from './controller.ts';
import { benchDocker } from './docker.ts';
import { benchLifeCycle } from './life-cycle.ts';
import { benchList } from './list.ts';
import { benchMetrics } from './metrics.ts';
import { benchSnapshots } from './snapshots.ts';
import { benchStartUp } from './start-up.ts';
import { benchTransfers } from './transfers.ts';

const sections: Readonly<Record<string, (directory: string) => Promise<string>>> = {
  'life-cycle': benchLifeCycle,
  'start-up': benchStartUp,
  list: benchList,
  metrics: benchMetrics,
  snapshots: benchSnapshots,
  'changed-blocks': benchChangedBlocks,
  controller: benchController,
  transfers: benchTransfers,
  docker: benchDocker,
};

const requested = process.argv.slice(2);
const unknown = requested.filter((name) => !(name in sections));
if (unknown.length > 0) {
  console.error(
    `unknown section ${unknown.join(', ')}; the sections are ${Object.keys(sections).join(', ')}`,
  );
  process.exit(2);
}
console.log(`Node ${process.version}, Linux ${release()}, ${cpus().length} cores\n`);
for (const [name, bench] of Object.entries(sections)) {
  if (requested.length > 0 && !requested.includes(name)) continue;
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-bench-'));
  await mkdir(join(directory, 'pool'));
  try {
    console.log(`## ${name}\n\n${await bench(directory)}\n`);
  } finally {
    await removeAll(directory);
  }
}
