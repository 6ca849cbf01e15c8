/** Claims that are made and deleted all the time, so that a delay, a lost volume or a second one for a claim is noticed. */
import { setTimeout as delay } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import * as v from 'valibot';
import { scaledMs } from '../../helpers/slowness.ts';
import { eventually } from '../eventually.ts';

import { loopcsiOn } from './driver-pods.ts';
import { api, cluster, isBound, type Scenario } from './scenario.ts';

const everyMs = 1_000;
/** No further claim is made while so many are not bound, so that the load fits the speed of the machine. */
const mostPending = 5;
/** A claim must be bound within this time, whatever happens: a new leader is elected after some 20 seconds. */
const boundWithinMs = scaledMs(120_000);

export class ClaimLoad {
  readonly #scenario: Scenario;
  readonly #storageClass: string;
  readonly #working: Promise<void>;
  /** Unbound claims with the time of their creation. */
  readonly #pending = new Map<string, number>();
  #isOver = false;
  #made = 0;
  readonly #bound = new Set<string>();
  #longestMs = 0;

  constructor(scenario: Scenario, storageClass: string) {
    this.#scenario = scenario;
    this.#storageClass = storageClass;
    this.#working = this.#work();
    // `end` reports the error.
    this.#working.catch(() => undefined);
  }

  /** Waits until a claim is bound that is made from now on. Returns how long that took, in milliseconds. */
  async untilNextBound(): Promise<number> {
    const startedAtMs = performance.now();
    const name = `load-${this.#made + 1}`;
    await eventually(
      `${name} to be bound`,
      async () => (this.#bound.has(name) ? true : undefined),
      { timeoutMs: 180_000 },
    );
    return performance.now() - startedAtMs;
  }

  /** Ends the load, and asserts that every claim was bound, and that the nodes have exactly one volume for each that is left. */
  async end(t: ExecutionContext): Promise<void> {
    this.#isOver = true;
    await this.#working;
    t.log(
      `${this.#bound.size} claims were bound, the slowest after ${Math.round(this.#longestMs)} ms`,
    );
    t.is(this.#bound.size, this.#made);
    const { namespace } = this.#scenario;
    const claims = await api.list('PersistentVolumeClaim', namespace);
    // The last ones may just be being deleted.
    const kept = claims.filter(({ metadata }) => metadata['deletionTimestamp'] === undefined);
    const expected = await Promise.all(
      kept.map(async ({ metadata }) => this.#scenario.volumeId(metadata.name)),
    );
    await eventually(
      'one volume for each claim, and no other',
      async () => {
        const found = await volumesOfClaims(namespace);
        const [has, wants] = [found.sort().join('\n'), [...expected].sort().join('\n')];
        if (has === wants) return true;
        throw new Error(`there are\n${has}\ninstead of\n${wants}`);
      },
      { timeoutMs: 180_000 },
    );
  }

  async #work(): Promise<void> {
    while (!this.#isOver || this.#pending.size > 0) {
      if (!this.#isOver && this.#pending.size < mostPending) await this.#make();
      await delay(everyMs);
      await this.#look();
    }
  }

  async #make(): Promise<void> {
    const name = `load-${this.#made + 1}`;
    this.#pending.set(name, performance.now());
    await this.#scenario.claim(name, { storageClass: this.#storageClass, size: '320Mi' });
    this.#made += 1;
  }

  async #look(): Promise<void> {
    const { namespace } = this.#scenario;
    for (const claim of await api.list('PersistentVolumeClaim', namespace)) {
      const { name } = claim.metadata;
      const madeAtMs = this.#pending.get(name);
      if (madeAtMs === undefined) continue;
      const tookMs = performance.now() - madeAtMs;
      if (!isBound(claim)) {
        if (tookMs < boundWithinMs) continue;
        throw new Error(`${name} was not bound within ${boundWithinMs / 1000} s`);
      }
      this.#pending.delete(name);
      this.#bound.add(name);
      this.#longestMs = Math.max(this.#longestMs, tookMs);
      // Four of five are deleted, so that the pools do not fill up.
      if (this.#bound.size % 5 !== 0) await api.delete('PersistentVolumeClaim', namespace, name);
    }
  }
}

const volumesSchema = v.array(
  v.looseObject({ id: v.string(), owner: v.nullable(v.looseObject({ namespace: v.string() })) }),
);

/** The ids of all volumes on all nodes that were made for claims of this namespace. */
async function volumesOfClaims(namespace: string): Promise<string[]> {
  const ids: string[] = [];
  for (const node of cluster.nodes) {
    const text = await loopcsiOn(node, 'volume', 'list', '--output', 'json');
    for (const { id, owner } of v.parse(volumesSchema, JSON.parse(text))) {
      if (owner?.namespace === namespace) ids.push(id);
    }
  }
  return ids;
}
