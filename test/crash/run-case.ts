import { setTimeout as delay } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { scaledMs } from '../helpers/slowness.ts';
import type { Moment } from './fault-moments.ts';
import { momentsOf } from './fault-moments.ts';
import {
  brokenInvariants,
  countContents,
  damagedImages,
  type PoolCounts,
  waitUntilIdle,
} from './invariants.ts';
import type { Operation } from './operations.ts';
import type { TestNode } from './test-node.ts';

/** One kill and its outcome. */
export interface Outcome {
  readonly operation: string;
  readonly poolFs: string;
  readonly moment: Moment;
  /** Whether the call was answered before the driver was killed. */
  readonly answered: boolean;
  /** Contents of the pool after the kill, and after the next start. */
  readonly left: PoolCounts;
  readonly after: PoolCounts;
  readonly problems: readonly string[];
}

/** A killed driver's filesystems are thawed within a millisecond on an idle machine; a busy one may need this long. */
export const thawMs = 3_000;

let rounds = 0;

/** Runs an operation twice without a kill, to find the moments that it passes and the answer that it must always give. */
export async function rehearse(
  testNode: TestNode,
  operation: Operation,
): Promise<{ moments: readonly Moment[]; answer: unknown; problems: readonly string[] }> {
  const round = nextRound();
  await operation.prepare?.(testNode);
  await waitUntilIdle(poolPathsOf(testNode));
  await testNode.arm(round);
  const answer = await operation.call(testNode);
  await waitUntilIdle(poolPathsOf(testNode));
  const moments = await momentsOf(testNode.directory, round);
  await testNode.arm(nextRound());
  const again = await operation.call(testNode);
  await operation.check?.(testNode);
  const problems = [
    ...differences('repeated call', answer, again),
    ...(await brokenInvariants(poolPathsOf(testNode), 'idle')),
    ...(await clearAway(testNode)),
  ];
  return { moments, answer, problems };
}

/** Kills the driver at the moment, starts it again, repeats the call and deletes everything. Checks the pool after each step. */
export async function killAt(
  testNode: TestNode,
  operation: Operation,
  expected: { readonly moment: Moment; readonly answer: unknown },
): Promise<Outcome> {
  const { moment, answer } = expected;
  const paths = poolPathsOf(testNode);
  const problems: string[] = [];
  const addProblems = (step: string, found: readonly string[]): void => {
    for (const one of found) problems.push(`${step}: ${one}`);
  };
  await operation.prepare?.(testNode);
  await waitUntilIdle(paths);
  await testNode.arm(nextRound(), moment);
  const answered = await operation.call(testNode).then(
    () => true,
    () => false,
  );
  const end = await withTimeout(testNode.driver.ended, scaledMs(30_000));
  if (end !== 'SIGKILL') problems.push(`the driver was not killed there: ${end}`);
  // A separate process thaws the filesystems; it needs time to be scheduled.
  if (moment.point.startsWith('capture:')) await delay(thawMs);
  const left = await countContents(paths);
  addProblems('after the kill', await brokenInvariants(paths, 'killed'));
  await testNode.restart();
  await waitUntilIdle(paths);
  const after = await countContents(paths);
  addProblems('after the start', await brokenInvariants(paths, 'idle'));
  addProblems('checkers', await damagedImages(paths));
  const again = await operation.call(testNode);
  addProblems('repeated call', differences('answer', answer, again));
  await operation.check?.(testNode);
  await waitUntilIdle(paths);
  addProblems('after the repeated call', await brokenInvariants(paths, 'idle'));
  addProblems('at the end', await clearAway(testNode));
  const { name, poolFs } = operation;
  return { operation: name, poolFs, moment, answered, left, after, problems };
}

export function poolPathsOf(testNode: TestNode) {
  return { directory: testNode.directory, poolPath: testNode.poolPath };
}

function nextRound(): string {
  rounds += 1;
  return `round-${rounds}`;
}

/** Deletes everything through the driver's calls and returns the leftovers. */
export async function clearAway(testNode: TestNode): Promise<readonly string[]> {
  await testNode.clear();
  await waitUntilIdle(poolPathsOf(testNode));
  return brokenInvariants(poolPathsOf(testNode), 'empty');
}

/** Compares two answers, except their creation times. */
export function differences(what: string, expected: unknown, found: unknown): readonly string[] {
  if (isDeepStrictEqual(withoutTimes(expected), withoutTimes(found))) return [];
  return [`${what}: ${text(found)} instead of ${text(expected)}`];
}

function withoutTimes(answer: unknown): unknown {
  if (Array.isArray(answer)) return answer.map(withoutTimes);
  if (typeof answer !== 'object' || answer === null) return answer;
  return Object.fromEntries(
    Object.entries(answer).map(([key, value]) => [
      key,
      key === 'creation_time' ? 'some time' : withoutTimes(value),
    ]),
  );
}

function text(value: unknown): string {
  return JSON.stringify(value, (_key, one: unknown) => (typeof one === 'bigint' ? `${one}n` : one));
}

async function withTimeout(work: Promise<string>, boundMs: number): Promise<string> {
  let timer: NodeJS.Timeout | undefined;
  const bound = new Promise<string>((resolve) => {
    timer = setTimeout(() => resolve('it is still running'), boundMs);
  });
  try {
    return await Promise.race([work, bound]);
  } finally {
    clearTimeout(timer);
  }
}
