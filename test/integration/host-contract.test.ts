import { hostContract } from '../contract/host-contract.ts';
import { noteSkip, onScratch, rootTest } from '../helpers/root-scratch.ts';

noteSkip();
for (const { name, run } of hostContract) {
  rootTest(name, async (t) => {
    await onScratch(t, (scratch) =>
      run({ ...scratch, equal: (actual, expected, what) => t.deepEqual(actual, expected, what) }),
    );
  });
}
