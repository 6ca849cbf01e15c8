/** How long a node takes to create volumes while another one fails. */
import type { ExecutionContext } from 'ava';
import type { ClusterNode } from '../cluster/node.ts';
import { api, isBound, type Scenario } from './scenario.ts';

/** A few are enough for the assertion; more give a 95th percentile that is worth its name. */
const count = Number(process.env['LOOPCSI_E2E_CLAIMS'] ?? '8');
/** Less than any time limit in the driver, its controller and its sidecars for a node that does not answer. */
const shortestLimitMs = 4_000;
/** Beside the failing node, other programs of this machine are in the times. */
const mostFactor = 3;

interface Times {
  readonly medianMs: number;
  readonly p95Ms: number;
}

/**
 * Creates claims on the node, one after another, and measures the time from the creation of each until it is bound. The claims
 * name the node as the scheduler does, so no pod is needed. They are deleted with the scenario.
 */
export async function provisioningTimes(
  scenario: Scenario,
  label: string,
  node: ClusterNode,
): Promise<Times> {
  const times: number[] = [];
  for (let index = 0; index < count; index += 1) {
    const name = `${label}-${index}`;
    const startedAt = performance.now();
    await scenario.claim(name, { size: '16Mi', assignedTo: node.name });
    await api.until('PersistentVolumeClaim', scenario.namespace, name, isBound, { everyMs: 20 });
    times.push(performance.now() - startedAt);
  }
  times.sort((a, b) => a - b);
  const at = (part: number): number => times[Math.ceil(count * part) - 1] ?? 0;
  return { medianMs: at(0.5), p95Ms: at(0.95) };
}

/**
 * Logs both, and asserts that volumes do not wait for the failing node: half of them are made in less time than any time limit for
 * a node, or in not much more than before.
 */
export function assertNotSlower(
  t: ExecutionContext,
  before: Times,
  during: Times,
  failure: string,
): void {
  const line = (what: 'medianMs' | 'p95Ms'): string =>
    `${before[what].toFixed(0)} ms before, ${during[what].toFixed(0)} ms with ${failure}, factor ${(during[what] / before[what]).toFixed(2)}`;
  t.log(`claims on another node: median ${line('medianMs')}; p95 ${line('p95Ms')}`);
  t.true(
    during.medianMs < Math.max(shortestLimitMs, mostFactor * before.medianMs),
    `the median is ${line('medianMs')}`,
  );
}
