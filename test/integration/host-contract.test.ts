import { hostContract } from '../contract/host-contract.ts';
import { onNode } from '../helpers/on-node.ts';
import { onScratch } from '../helpers/root-scratch.ts';

for (const { name, run } of hostContract) {
  onNode(name, async (t) => {
    await onScratch(t, (scratch) =>
      run({ ...scratch, equal: (actual, expected, what) => t.deepEqual(actual, expected, what) }),
    );
  });
}
