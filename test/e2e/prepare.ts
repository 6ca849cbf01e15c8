/**
 * Builds everything that is cached between runs, so that no test waits for it: `programs` (Kubernetes, sidecars, helm), `images`
 * (of these and of the driver), `suite` (Kubernetes' own tests), `prometheus` (with promtool). Prints the duration of each on standard error.
 */

import { prometheusPrograms } from '../monitoring/programs.ts';
import { clusterImages, driverImage } from './cluster/images.ts';
import { clusterPrograms, suitePrograms } from './cluster/programs.ts';

const parts: Readonly<Record<string, () => Promise<unknown>>> = {
  programs: clusterPrograms,
  images: async () => [await clusterImages(await clusterPrograms()), await driverImage()],
  suite: suitePrograms,
  prometheus: prometheusPrograms,
};

for (const name of process.argv.slice(2)) {
  const part = parts[name];
  if (part === undefined) throw new Error(`there is no part ${name}`);
  const startedAtMs = Date.now();
  await part();
  process.stderr.write(`prepared ${name} in ${Math.round((Date.now() - startedAtMs) / 1000)} s\n`);
}
