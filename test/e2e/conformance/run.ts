/**
 * Kubernetes' own storage suite against the installed driver: `npm run test:e2e:conformance [-- --nodes 3 [--shape controller]]`. Runs in
 * the cluster's network namespace, started by test/e2e/run.ts. A regular expression in LOOPCSI_SUITE_FOCUS selects tests;
 * LOOPCSI_SUITE_WRITE=FILE also writes a table of all tests to FILE, as Markdown.
 */
import { writeFile } from 'node:fs/promises';
import { suitePrograms } from '../cluster/programs.ts';
import { classes, driverName } from '../kube/chart.ts';
import { api } from '../kube/scenario.ts';
import { hasController } from '../kube/shape.ts';
import type { Outcome } from './junit.ts';
import { labelPreProvisioned } from './preprovisioned.ts';
import { reportOf } from './report.ts';
import { Suite } from './suite.ts';
import { left, modifyingClass, needsImmediateBinding, testDriver } from './test-driver.ts';

/** Concurrent runs of the suite: each test has its own namespace. */
const sideBySide = 3;

const isCentral = await hasController();
const suiteWith = async (storageClass: string): Promise<Suite> =>
  Suite.of(await suitePrograms(), testDriver(isCentral, storageClass), storageClass);
const suite = await suiteWith(classes.suite);
const immediateSuite = await suiteWith(classes.immediateReflink);
const focus = new RegExp(process.env['LOOPCSI_SUITE_FOCUS'] ?? '');
const all = (await suite.names()).filter((name) => focus.test(name));
const leftOut = (name: string): boolean => left.some(({ pattern }) => pattern.test(name));
const chosen = all.filter((name) => !leftOut(name));
console.log(`${all.length} tests, ${all.length - chosen.length} left out`);

const outcomes: Outcome[] = [];
const { name: className, parameters } = modifyingClass;
await api.create('VolumeAttributesClass', '', {
  metadata: { name: className },
  driverName,
  parameters,
});
const is =
  (mark: string) =>
  (name: string): boolean =>
    name.includes(mark);
const immediate = chosen.filter((name) => needsImmediateBinding.test(name));
const delayed = chosen.filter((name) => !immediate.includes(name));
const alone = delayed.filter(is('[Serial]'));
const slow = delayed.filter((name) => is('[Slow]')(name) && !is('[Serial]')(name));
const others = delayed.filter((name) => !alone.includes(name) && !slow.includes(name));
const ended = new AbortController();
// A central snapshotter needs no label.
const labelling = isCentral ? undefined : labelPreProvisioned(ended.signal);
await runSideBySide(others, 'fast');
await runAndTell(alone, 'serial-');
await runAndTell(immediate, 'immediate-', immediateSuite);
await writeReport();
await runSideBySide(slow, 'slow');
await writeReport();
ended.abort();
await labelling;
await api.delete('VolumeAttributesClass', '', className);

async function runSideBySide(names: readonly string[], label: string): Promise<void> {
  const shards = Array.from({ length: sideBySide }, (_, shard) =>
    names.filter((_name, index) => index % sideBySide === shard),
  );
  await Promise.all(shards.map(async (some, shard) => runAndTell(some, `${label}${shard}-`)));
}

async function runAndTell(
  names: readonly string[],
  label: string,
  runner: Suite = suite,
): Promise<void> {
  if (names.length === 0) return;
  for (const outcome of await runner.run(names, label)) {
    outcomes.push(outcome);
    console.log(`${outcome.status} (${outcome.seconds.toFixed(0)} s): ${outcome.name}`);
    if (outcome.status === 'failed') console.log(outcome.message);
  }
}

/** Also called halfway, because the slow tests take as long as all others. */
async function writeReport(): Promise<void> {
  const file = process.env['LOOPCSI_SUITE_WRITE'] ?? '';
  if (file !== '') await writeFile(file, reportOf(outcomes, all));
}

const count = (status: Outcome['status']): number =>
  outcomes.filter((one) => one.status === status).length;
const missing = chosen.length - outcomes.length;
console.log(
  `${count('passed')} passed, ${count('failed')} failed, ${count('skipped')} skipped, ${missing} without a result`,
);
process.exitCode = count('failed') + missing > 0 || count('passed') === 0 ? 1 : 0;
