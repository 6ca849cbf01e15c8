/**
 * Leader election by a Lease, with the rules of client-go: a lease whose record has not changed for its duration, by the clock of
 * the candidate, may be taken. A leader that could not renew it in time stops. This is no fence: two processes may believe to
 * lead for a moment, so the work of a leader has to be safe without it.
 */
import { setTimeout as delay } from 'node:timers/promises';
import * as v from 'valibot';
import { messageOf } from '../../errors.ts';
import type { Logger } from '../../observe/log.ts';
import { hasStatus, type KubeClient } from './client.ts';

interface LeaseOptions {
  readonly client: KubeClient;
  readonly namespace: string;
  readonly name: string;
  /** Unique for each process: the name of the pod. */
  readonly identity: string;
  readonly log: Logger;
  /** Ends the election, releases the lease and aborts the work. */
  readonly signal: AbortSignal;
  /** The work of the leader. Its signal is aborted when the lease is lost. */
  readonly lead: (signal: AbortSignal) => Promise<void>;
  readonly timing?: LeaseTiming;
}

interface LeaseTiming {
  readonly durationMs: number;
  /** A leader that has not renewed the lease for this long stops; less than `durationMs`. */
  readonly renewDeadlineMs: number;
  readonly retryMs: number;
}

const defaultTiming: LeaseTiming = { durationMs: 30_000, renewDeadlineMs: 20_000, retryMs: 5_000 };

const leaseSchema = v.looseObject({
  metadata: v.looseObject({ name: v.string(), resourceVersion: v.string() }),
  spec: v.optional(
    v.looseObject({
      holderIdentity: v.optional(v.nullable(v.string())),
      leaseDurationSeconds: v.optional(v.nullable(v.number())),
      leaseTransitions: v.optional(v.nullable(v.number())),
      acquireTime: v.optional(v.nullable(v.string())),
      renewTime: v.optional(v.nullable(v.string())),
    }),
    {},
  ),
});
type Lease = v.InferOutput<typeof leaseSchema>;

/** Takes part in the election until the signal is aborted; resolves when the work has ended, too. */
export async function leadByLease(options: LeaseOptions): Promise<void> {
  const { signal, log, lead, name, timing = defaultTiming } = options;
  const candidate = new Candidate(options, timing);
  while (!signal.aborted) {
    if (await candidate.holds()) {
      log.info({ lease: name }, 'became the leader');
      const lost = new AbortController();
      const work = lead(AbortSignal.any([signal, lost.signal])).catch((error: unknown) => {
        log.error({ err: error }, 'the work of the leader failed');
      });
      await keep(candidate, options, timing);
      lost.abort();
      await work;
      if (signal.aborted) await candidate.release();
      else log.warn({ lease: name }, 'lost the lease');
    }
    await pause(timing.retryMs, signal);
  }
}

/** Renews the lease until that has failed for too long, another process has it, or the signal is aborted. */
async function keep(
  candidate: Candidate,
  { signal }: LeaseOptions,
  { renewDeadlineMs, retryMs }: LeaseTiming,
): Promise<void> {
  let renewedMs = performance.now();
  for (;;) {
    await pause(retryMs, signal);
    if (signal.aborted) return;
    const startMs = performance.now();
    if (await candidate.holds()) renewedMs = startMs;
    else if (candidate.isTaken || performance.now() - renewedMs > renewDeadlineMs) return;
  }
}

class Candidate {
  readonly #options: LeaseOptions;
  readonly #durationMs: number;
  /** The record of the lease as last seen, and when it was seen first. */
  #seen = { record: '', atMs: 0 };
  /** Another process holds the lease. */
  isTaken = false;

  constructor(options: LeaseOptions, { durationMs }: LeaseTiming) {
    this.#options = options;
    this.#durationMs = durationMs;
  }

  /** Takes or renews the lease. Failures of calls are answered with false. */
  async holds(): Promise<boolean> {
    const { client, identity, log, name } = this.#options;
    try {
      const lease = await this.#read();
      if (lease === undefined) {
        await client.create(this.#collection, this.#record(undefined));
      } else {
        this.isTaken = !this.#mayTake(lease);
        if (this.isTaken) return false;
        await client.replace(`${this.#collection}/${name}`, this.#record(lease));
      }
      this.isTaken = false;
      return true;
    } catch (error) {
      // 409: another process was faster.
      if (!hasStatus(error, 409)) {
        log.warn({ lease: name, identity, problem: messageOf(error) }, 'the lease was not renewed');
      }
      return false;
    }
  }

  /** Lets another process take the lease without waiting for its end. */
  async release(): Promise<void> {
    const { client, identity, log, name } = this.#options;
    try {
      const lease = await this.#read();
      if (lease?.spec.holderIdentity !== identity) return;
      const spec = { ...lease.spec, holderIdentity: '', leaseDurationSeconds: 1 };
      await client.replace(`${this.#collection}/${name}`, { ...lease, spec });
    } catch (error) {
      log.debug({ lease: name, problem: messageOf(error) }, 'the lease was not released');
    }
  }

  async #read(): Promise<Lease | undefined> {
    const { client, name } = this.#options;
    try {
      return v.parse(leaseSchema, await client.get(`${this.#collection}/${name}`));
    } catch (error) {
      if (hasStatus(error, 404)) return undefined;
      throw error;
    }
  }

  #mayTake({ spec }: Lease): boolean {
    const holder = spec.holderIdentity ?? '';
    if (holder === '' || holder === this.#options.identity) return true;
    // The clocks of other machines are not compared: only whether the holder renews.
    const record = JSON.stringify(spec);
    if (record !== this.#seen.record) this.#seen = { record, atMs: performance.now() };
    const seconds = spec.leaseDurationSeconds ?? this.#durationMs / 1000;
    return performance.now() - this.#seen.atMs > seconds * 1000;
  }

  #record(lease: Lease | undefined): object {
    const { name, namespace, identity } = this.#options;
    const isOurs = lease?.spec.holderIdentity === identity;
    const now = microTime();
    return {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: lease?.metadata ?? { name, namespace },
      spec: {
        holderIdentity: identity,
        leaseDurationSeconds: Math.ceil(this.#durationMs / 1000),
        acquireTime: isOurs ? lease.spec.acquireTime : now,
        renewTime: now,
        leaseTransitions:
          (lease?.spec.leaseTransitions ?? 0) + (isOurs || lease === undefined ? 0 : 1),
      },
    };
  }

  get #collection(): string {
    return `/apis/coordination.k8s.io/v1/namespaces/${this.#options.namespace}/leases`;
  }
}

/** The API accepts exactly six digits of a second. */
const microTime = (): string => new Date().toISOString().replace('Z', '000Z');

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await delay(ms, undefined, { signal }).catch(() => undefined);
}
