/**
 * What the leader does about nodes that do not come back: it notes when their Node object was deleted, forgets them if the policy says
 * so, and tells the owners of claims.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { messageOf } from '../../errors.ts';
import { nodeTagOf } from '../../ids.ts';
import type { Logger } from '../../observe/log.ts';
import type { Agents } from '../agents.ts';
import { hasStatus, type KubeClient } from '../kube/client.ts';
import { ClaimEvents } from './claim-events.ts';
import { type AbsentNode, absentNodes, listVolumes } from './lost-nodes.ts';
import type { NodeRecords } from './records.ts';

export interface LossOptions {
  readonly client: Pick<KubeClient, 'get' | 'create'>;
  readonly driverName: string;
  readonly agents: Agents;
  readonly records: NodeRecords;
  readonly log: Logger;
  /** `forget`: forget a node whose Node object was deleted `afterDeletedMs` ago and whose agent is not reached. */
  readonly policy: 'keep' | 'forget';
  readonly afterDeletedMs: number;
  /** Whether claims get events. */
  readonly hasEvents: boolean;
  /** Name of this process in the events. */
  readonly instance: string;
  /** Milliseconds since 1970; tests replace the clock. */
  readonly now?: () => number;
}

const checkEveryMs = 2 * 60_000;
/** Events are for nodes that have been unreachable for longer than an upgrade of the driver or a reboot takes. */
const longAbsentMs = 10 * 60_000;

/** Checks until the signal is aborted. */
export async function watchLosses(options: LossOptions, signal: AbortSignal): Promise<void> {
  const check = new LossCheck(options);
  while (!signal.aborted) {
    try {
      await check.run(signal);
    } catch (error) {
      options.log.warn({ problem: messageOf(error) }, 'lost nodes were not checked');
    }
    await delay(checkEveryMs, undefined, { signal }).catch(() => undefined);
  }
}

export class LossCheck {
  readonly #options: LossOptions;
  readonly #events: ClaimEvents;
  /** Nodes that the previous check of this process found deleted. */
  #deletedBefore: ReadonlySet<string> = new Set();

  constructor(options: LossOptions) {
    this.#options = options;
    const { client, driverName, instance, log, now = Date.now } = options;
    this.#events = new ClaimEvents({ client, driverName, instance, log, now });
  }

  /** One round. Idempotent. Throws an error of the API. */
  async run(signal: AbortSignal): Promise<void> {
    const { agents, records, client, driverName } = this.#options;
    if (agents.isSettling) return;
    const absent = absentNodes({ agents, records }, await listVolumes(client, driverName));
    await this.#clearReturned();
    const deletedNow = new Set<string>();
    for (const lost of absent) {
      if (signal.aborted) return;
      const exists = await this.#objectExists(lost.name);
      if (exists === undefined) continue;
      if (!exists) deletedNow.add(lost.name);
      await this.#treat(lost, { isObjectDeleted: !exists });
    }
    this.#deletedBefore = deletedNow;
  }

  async #treat(
    lost: AbsentNode,
    { isObjectDeleted }: { readonly isObjectDeleted: boolean },
  ): Promise<void> {
    const { policy, records, hasEvents, now = Date.now } = this.#options;
    const { name, claims, absentMs } = lost;
    if (policy === 'forget') {
      await records.noteObject(name, { exists: !isObjectDeleted, atMs: now() });
      if (isObjectDeleted && this.#isDue(lost)) {
        await this.#forget(lost);
        return;
      }
    }
    if (!hasEvents || (absentMs < longAbsentMs && !isObjectDeleted)) return;
    await this.#events.announce(claims, { node: name, isObjectDeleted });
  }

  /** A clock that jumps, or one wrong answer of the API, must not be enough. */
  #isDue({ name, node, absentMs }: AbsentNode): boolean {
    const { records, afterDeletedMs, now = Date.now } = this.#options;
    const at = records.all().find((record) => record.name === name)?.objectDeletedAt ?? null;
    const isUnreachable = node === undefined || node.absence?.kind === 'unreachable';
    return (
      isUnreachable &&
      at !== null &&
      now() - Date.parse(at) >= afterDeletedMs &&
      absentMs >= Math.min(afterDeletedMs, longAbsentMs) &&
      this.#deletedBefore.has(name)
    );
  }

  async #forget({ name, node, claims }: AbsentNode): Promise<void> {
    const { records, log } = this.#options;
    await records.forget(name, { by: 'policy', addresses: node?.addresses ?? [] });
    log.warn(
      { node: name, claims: claims.length, undo: `kubectl loopcsi node remember ${name}` },
      'a node was forgotten, because its Node object was deleted',
    );
  }

  /** While the agent of a node is ready, its Node object does not matter: the time begins anew when the agent is unreachable. */
  async #clearReturned(): Promise<void> {
    const { agents, records, now = Date.now } = this.#options;
    const ready = new Set(agents.nodes().flatMap(({ tag, agent }) => (agent ? [tag] : [])));
    for (const { name, objectDeletedAt } of records.all()) {
      if (objectDeletedAt === null || !ready.has(nodeTagOf(name))) continue;
      await records.noteObject(name, { exists: true, atMs: now() });
    }
  }

  /** undefined if the API server does not say, for example because the node's name cannot be that of an object. */
  async #objectExists(name: string): Promise<boolean | undefined> {
    const { client, log } = this.#options;
    try {
      await client.get(`/api/v1/nodes/${encodeURIComponent(name)}`);
      return true;
    } catch (error) {
      if (hasStatus(error, 404)) return false;
      log.warn({ node: name, problem: messageOf(error) }, 'the Node object was not read');
      return undefined;
    }
  }
}
