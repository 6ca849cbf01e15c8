import { onNode } from '../helpers/on-node.ts';
import { reasonsOfController, runSanity, skipped } from './run-sanity.ts';

for (const kind of ['block', 'ext4'] as const) {
  onNode(`csi-sanity: ${kind} volumes through a controller with three nodes`, (t) =>
    runSanity(t, { poolFs: 'directory', kind, nodesOfController: 3 }),
  );
}

onNode(
  'csi-sanity: the reasons that only a controller has are those of specs that did not run',
  (t) => {
    for (const reason of reasonsOfController) t.true(skipped.has(reason), reason);
  },
);
