import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { makeRealHost } from '../../src/host/real-host.ts';
import { type FaultPoint, faultPoints } from '../../src/volumes/engine/fault-points.ts';
import { makeCertificates } from '../helpers/certificates.ts';
import { onNode } from '../helpers/on-node.ts';
import type { Moment } from './fault-moments.ts';
import { type Operation, operations } from './operations.ts';
import { asMarkdown, asSummary } from './report.ts';
import { killAt, type Outcome, rehearse } from './run-case.ts';
import { TestNode } from './test-node.ts';

/** A sample kills at every fault point at least once; a full run kills at every moment of every operation. */
const isSample = process.env['LOOPCSI_CRASH'] === 'sample';
/** Absolute path; empty to write nothing. */
const reportFile = process.env['LOOPCSI_CRASH_WRITE'] ?? '';
const only = process.env['LOOPCSI_CRASH_ONLY'] ?? '';
const root = join(import.meta.dirname, '..', '..', '..');

const testNodes = new Map<string, TestNode>();
const reached = new Set<FaultPoint>();
const killed = new Set<FaultPoint>();
const outcomes: Outcome[] = [];

async function testNodeFor(operation: Operation): Promise<TestNode> {
  const key = keyOf(operation);
  const testNode = testNodes.get(key) ?? (await makeTestNode(operation));
  testNodes.set(key, testNode);
  return testNode;
}

async function makeTestNode(operation: Operation): Promise<TestNode> {
  const certificates = await makeCertificates();
  return TestNode.make({ ...operation, ...(operation.hasPeer === true ? { certificates } : {}) });
}

/** Rows that need the same kind of node share one: each case must leave it empty. */
function keyOf({ poolFs, flags, hasPeer = false }: Operation): string {
  return `${poolFs} ${flags?.('').join(' ') ?? ''} ${hasPeer ? 'with a peer' : ''}`;
}

/** A node on which a case failed cannot be used for the next row. */
async function discardTestNode(operation: Operation): Promise<void> {
  const testNode = testNodes.get(keyOf(operation));
  testNodes.delete(keyOf(operation));
  await testNode?.end();
}

function isWanted(moment: Moment): boolean {
  if (!isSample) return true;
  if (killed.has(moment.point)) return false;
  killed.add(moment.point);
  return true;
}

for (const operation of operations) {
  if (!operation.name.includes(only)) continue;
  onNode(`${operation.name} (${operation.poolFs} pool), killed at its fault points`, async (t) => {
    t.timeout(20 * 60_000);
    try {
      const { moments, answer, problems } = await rehearse(await testNodeFor(operation), operation);
      t.deepEqual(problems, [], 'without a kill');
      for (const { point } of moments) reached.add(point);
      const chosen = moments.filter(isWanted);
      for (const moment of chosen) {
        const outcome = await killAt(await testNodeFor(operation), operation, { moment, answer });
        outcomes.push(outcome);
        t.deepEqual(outcome.problems, [], `killed at ${moment.point}, time ${moment.nth}`);
        if (outcome.problems.length > 0) await discardTestNode(operation);
      }
      t.log(`${chosen.length} of ${moments.length} moments`);
      t.pass();
    } catch (error) {
      t.log(
        await testNodes
          .get(keyOf(operation))
          ?.driver.log()
          .then((log) => log.slice(-3_000)),
      );
      await discardTestNode(operation);
      throw error;
    }
  });
}

/** Fault points that a file of src/ names, except the list itself. */
async function pointsInUse(): Promise<ReadonlySet<FaultPoint>> {
  const directory = join(root, 'src');
  const files = (await readdir(directory, { recursive: true })).filter(
    (name) => name.endsWith('.ts') && !name.endsWith('fault-points.ts'),
  );
  const texts = await Promise.all(files.map((file) => readFile(join(directory, file), 'utf8')));
  return new Set(faultPoints.filter((point) => texts.some((one) => one.includes(`'${point}'`))));
}

onNode('some operation passes every fault point of the driver', async (t) => {
  if (only !== '') {
    t.pass();
    return;
  }
  const inUse = await pointsInUse();
  // ext4 that can grow while mounted is never unmounted to grow.
  const { canGrowExt4Online } = makeRealHost().facts;
  const notHere = (point: FaultPoint): boolean => canGrowExt4Online && point === 'expand:unmounted';
  t.deepEqual(
    [...inUse].filter((point) => !reached.has(point) && !notHere(point)),
    [],
  );
});

test.after.always('the test nodes leave no mount or loop device', async () => {
  const left: string[] = [];
  for (const testNode of testNodes.values()) left.push(...(await testNode.end()));
  if (left.length > 0) throw new Error(`left over: ${left.join(', ')}`);
});

onNode('a table lists the fault points and outcomes', async (t) => {
  t.log(`\n${asSummary(outcomes)}`);
  if (reportFile !== '') await writeFile(reportFile, asMarkdown(outcomes));
  t.true(outcomes.length > 0 || only !== '');
});
