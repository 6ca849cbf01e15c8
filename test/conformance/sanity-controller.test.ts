import { onNode } from '../helpers/on-node.ts';
import { runSanity } from './run-sanity.ts';

for (const kind of ['block', 'ext4'] as const) {
  onNode(`csi-sanity: ${kind} volumes through a controller with three nodes`, (t) =>
    runSanity(t, { poolFs: 'directory', kind, nodesOfController: 3 }),
  );
}
