import test from 'ava';
import { planFiles } from '../../../scripts/test-plan.ts';

test('files of a folder `alone` do not run together with others, and the largest files come first', (t) => {
  const files = [
    { path: 'dist/test/integration/small.test.js', bytes: 10 },
    { path: 'dist/test/integration/alone/small.test.js', bytes: 20 },
    { path: 'dist/test/integration/host/alone/large.test.js', bytes: 90 },
    { path: 'dist/test/integration/standalone/middle.test.js', bytes: 50 },
    { path: 'dist/test/integration/alone.test.js', bytes: 70 },
  ];
  t.deepEqual(planFiles([files]), {
    together: [
      'dist/test/integration/alone.test.js',
      'dist/test/integration/standalone/middle.test.js',
      'dist/test/integration/small.test.js',
    ],
    alone: [
      'dist/test/integration/host/alone/large.test.js',
      'dist/test/integration/alone/small.test.js',
    ],
  });
});

test('a file that is named before its folder comes first, and runs once', (t) => {
  const [small, large] = [
    { path: 'dist/test/crash/small.test.js', bytes: 10 },
    { path: 'dist/test/crash/large.test.js', bytes: 90 },
  ];
  t.deepEqual(planFiles([[small], [small, large]]).together, [small.path, large.path]);
});
