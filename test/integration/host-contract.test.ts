import { hostContract } from '../contract/host-contract.ts';
import { onNode } from '../helpers/on-node.ts';
import { realOtherSoftware } from '../helpers/other-software.ts';
import { onScratch } from '../helpers/root-scratch.ts';

for (const { name, run } of hostContract) {
  onNode(name, async (t) => {
    await onScratch(t, (scratch) =>
      run({
        ...scratch,
        otherSoftware: realOtherSoftware,
        equal: (actual, expected, what) => t.deepEqual(actual, expected, what),
      }),
    );
  });
}
