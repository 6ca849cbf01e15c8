import { join } from 'node:path';
import test from 'ava';
import { onNode } from '../helpers/on-node.ts';
import type { PoolFs } from '../helpers/scratch-pool.ts';
import {
  disagreements,
  documentedIn,
  kinds,
  reasonsOfController,
  runSanity,
  skipped,
} from './run-sanity.ts';

/** The pool's filesystem: the machine's (ext4), or one that can share blocks. */
const poolFilesystems = ['directory', 'xfs', 'btrfs'] as const satisfies readonly PoolFs[];

for (const poolFs of poolFilesystems) {
  for (const kind of kinds) {
    onNode(
      `csi-sanity: ${kind} volumes on ${poolFs === 'directory' ? 'the machine’s own filesystem' : `an ${poolFs} pool`}`,
      (t) => runSanity(t, { poolFs, kind }),
    );
  }
}

// Flags that change capabilities or code paths. xfs is used where volumes grow while mounted: ext4 needs CAP_SYS_RESOURCE.
const variants = [
  {
    name: '--expansion=node',
    kind: 'xfs',
    flagsIn: () => ['--expansion=node'],
  },
  {
    name: '--kubelet-dir',
    kind: 'ext4',
    flagsIn: (directory: string) => [`--kubelet-dir=${directory}`],
  },
  {
    name: '--without-staging',
    kind: 'ext4',
    flagsIn: (directory: string) => ['--without-staging', `--mount-dir=${join(directory, 'own')}`],
  },
] as const;
for (const { name, kind, flagsIn } of variants) {
  onNode(`csi-sanity: ${kind} volumes with ${name}`, (t) =>
    runSanity(t, { poolFs: 'directory', kind, flagsIn }),
  );
}

onNode('csi-sanity: the docs give no reason for a spec that runs', async (t) => {
  const documented = await documentedIn('Specs that do not run, and why');
  const known = new Set<string>([...skipped, ...reasonsOfController]);
  const stale = [...documented].filter((reason) => !known.has(reason));
  t.deepEqual(stale, []);
});

test('csi-sanity: the docs list exactly the specs that disagree', async (t) => {
  const documented = await documentedIn('Specs that disagree, and why');
  t.deepEqual([...documented], [...disagreements.keys()]);
});
