import test from 'ava';
import { outcomesOf } from '../../e2e/conformance/junit.ts';

const report = `<?xml version="1.0"?><testsuites><testsuite name="e2e" tests="4">
<testcase name="[SynchronizedBeforeSuite]" classname="e2e" status="passed" time="1.5"></testcase>
<testcase name="[It] External Storage [Driver: a] &#34;b&#34; should store data" classname="e2e" status="passed" time="12.25"></testcase>
<testcase name="[It] External Storage should break" classname="e2e" status="failed" time="3"><failure message="expected 1 &lt; 0" type="failed">trace</failure><system-err>x</system-err></testcase>
<testcase name="[It] External Storage should wait" classname="e2e" status="skipped" time="0"><skipped message="skipped - no Windows"></skipped></testcase>
</testsuite></testsuites>`;

test('a JUnit report is read without its entries that are not tests', (t) => {
  t.deepEqual(outcomesOf(report), [
    {
      name: 'External Storage [Driver: a] "b" should store data',
      status: 'passed',
      seconds: 12.25,
      message: '',
    },
    {
      name: 'External Storage should break',
      status: 'failed',
      seconds: 3,
      message: 'expected 1 < 0',
    },
    {
      name: 'External Storage should wait',
      status: 'skipped',
      seconds: 0,
      message: 'skipped - no Windows',
    },
  ]);
});
