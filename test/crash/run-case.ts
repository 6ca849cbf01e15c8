import { setTimeout as delay } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { patientMs } from '../helpers/slowness.ts';
import type { Moment } from './fault-moments.ts';
import { momentsOf } from './fault-moments.ts';
import { brokenInvariants, damagedImages, look, type Sight, settled } from './invariants.ts';
import type { Operation } from './operations.ts';
import type { World } from './world.ts';

/** One kill and what came of it. */
export interface Outcome {
  readonly operation: string;
  readonly ground: string;
  readonly moment: Moment;
  /** Whether the caller had its answer before the driver died. */
  readonly answered: boolean;
  /** What the kill left, and what start-up made of it. */
  readonly left: Sight;
  readonly after: Sight;
  readonly problems: readonly string[];
}

/** A killed driver's filesystems are thawed within a millisecond, on a machine that has one to spare. */
export const thawMs = 3_000;

let rounds = 0;

/** Runs an operation twice without a kill: the moments that it passes, and the answer that it must always give. */
export async function rehearse(
  world: World,
  operation: Operation,
): Promise<{ moments: readonly Moment[]; answer: unknown; problems: readonly string[] }> {
  const round = nextRound();
  await operation.prepare?.(world);
  await settled(placeOf(world));
  await world.arm(round);
  const answer = await operation.call(world);
  await settled(placeOf(world));
  const moments = await momentsOf(world.directory, round);
  await world.arm(nextRound());
  const again = await operation.call(world);
  await operation.check?.(world);
  const problems = [
    ...differences('repeated call', answer, again),
    ...(await brokenInvariants(placeOf(world), 'settled')),
    ...(await clearAway(world)),
  ];
  return { moments, answer, problems };
}

/** Kills the driver at the moment, starts it again, repeats the call, deletes everything, and looks after each step. */
export async function killAt(
  world: World,
  operation: Operation,
  expected: { readonly moment: Moment; readonly answer: unknown },
): Promise<Outcome> {
  const { moment, answer } = expected;
  const place = placeOf(world);
  const problems: string[] = [];
  const note = (step: string, found: readonly string[]): void => {
    for (const one of found) problems.push(`${step}: ${one}`);
  };
  await operation.prepare?.(world);
  await settled(place);
  await world.arm(nextRound(), moment);
  const answered = await operation.call(world).then(
    () => true,
    () => false,
  );
  const end = await within(world.driver.ended, patientMs(30_000));
  if (end !== 'SIGKILL') problems.push(`the driver was not killed there: ${end}`);
  // What was frozen is thawed by a process of its own, which has to get its turn first.
  if (moment.point.startsWith('capture:')) await delay(thawMs);
  const left = await look(place);
  note('after the kill', await brokenInvariants(place, 'killed'));
  await world.restart();
  await settled(place);
  const after = await look(place);
  note('after the start', await brokenInvariants(place, 'settled'));
  note('checkers', await damagedImages(place));
  const again = await operation.call(world);
  note('repeated call', differences('answer', answer, again));
  await operation.check?.(world);
  await settled(place);
  note('after the repeated call', await brokenInvariants(place, 'settled'));
  note('at the end', await clearAway(world));
  const { name, ground } = operation;
  return { operation: name, ground, moment, answered, left, after, problems };
}

export function placeOf(world: World) {
  return { directory: world.directory, poolPath: world.poolPath };
}

function nextRound(): string {
  rounds += 1;
  return `round-${rounds}`;
}

/** Deletes everything through the driver's calls and says what is left all the same. */
export async function clearAway(world: World): Promise<readonly string[]> {
  await world.clear();
  await settled(placeOf(world));
  return brokenInvariants(placeOf(world), 'empty');
}

/** An instant that lies in the past is another one each time; all else of an answer is the same. */
export function differences(what: string, expected: unknown, found: unknown): readonly string[] {
  if (isDeepStrictEqual(timeless(expected), timeless(found))) return [];
  return [`${what}: ${text(found)} instead of ${text(expected)}`];
}

function timeless(answer: unknown): unknown {
  if (Array.isArray(answer)) return answer.map(timeless);
  if (typeof answer !== 'object' || answer === null) return answer;
  return Object.fromEntries(
    Object.entries(answer).map(([key, value]) => [
      key,
      key === 'creation_time' ? 'some time' : timeless(value),
    ]),
  );
}

function text(value: unknown): string {
  return JSON.stringify(value, (_key, one: unknown) => (typeof one === 'bigint' ? `${one}n` : one));
}

async function within(work: Promise<string>, boundMs: number): Promise<string> {
  let timer: NodeJS.Timeout | undefined;
  const bound = new Promise<string>((resolve) => {
    timer = setTimeout(() => resolve('it lives on'), boundMs);
  });
  try {
    return await Promise.race([work, bound]);
  } finally {
    clearTimeout(timer);
  }
}
