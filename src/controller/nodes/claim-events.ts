/** Events that tell the owner of a claim that its node is not there, and which command gives the node up. */
import { createHash } from 'node:crypto';
import { messageOf } from '../../errors.ts';
import type { Logger } from '../../observe/log.ts';
import { hasStatus, type KubeClient } from '../kube/client.ts';
import type { Claim } from './lost-nodes.ts';

interface EventsOptions {
  readonly client: Pick<KubeClient, 'create'>;
  readonly driverName: string;
  /** Name of this process in the events. */
  readonly instance: string;
  readonly log: Logger;
  readonly now: () => number;
}

interface Loss {
  readonly node: string;
  /** The Node object does not exist any more. */
  readonly isObjectDeleted: boolean;
}

/** The API server deletes events after an hour; then the claim gets the next one. */
const repeatMs = 60 * 60_000;
/** A large node has fewer volumes. It bounds the time of one round. */
const maxEventsPerRound = 1_000;

/**
 * Creates at most one event an hour for a claim, node and reason. Its name follows from them, so that after a change of the leader, or a
 * restart, the API server refuses a second one.
 */
export class ClaimEvents {
  readonly #options: EventsOptions;
  /** When events were created, by their names. */
  readonly #created = new Map<string, number>();

  constructor(options: EventsOptions) {
    this.#options = options;
  }

  /** Creates the events that are due. A failure is logged and tried again in the next round. */
  async announce(claims: readonly Claim[], loss: Loss): Promise<void> {
    const { client, log, now } = this.#options;
    for (const [name, atMs] of this.#created) {
      if (now() - atMs >= repeatMs) this.#created.delete(name);
    }
    const due = claims.filter((claim) => !this.#created.has(nameOf(claim, loss)));
    for (const claim of due.slice(0, maxEventsPerRound)) {
      const name = nameOf(claim, loss);
      try {
        const path = `/api/v1/namespaces/${encodeURIComponent(claim.namespace)}/events`;
        await client.create(path, this.#event(name, claim, loss));
        this.#created.set(name, now());
      } catch (error) {
        // 409: it exists. 404 and 403: its namespace is gone, or is being deleted.
        if ([409, 404].some((status) => hasStatus(error, status))) this.#created.set(name, now());
        else {
          log.warn({ node: loss.node, problem: messageOf(error) }, 'an event was not created');
          return;
        }
      }
    }
  }

  #event(name: string, claim: Claim, loss: Loss): object {
    const { driverName, instance, now } = this.#options;
    const time = `${new Date(now()).toISOString().slice(0, 19)}Z`;
    const component = `${driverName}/controller`;
    return {
      apiVersion: 'v1',
      kind: 'Event',
      metadata: { name, namespace: claim.namespace },
      involvedObject: {
        apiVersion: 'v1',
        kind: 'PersistentVolumeClaim',
        namespace: claim.namespace,
        name: claim.name,
        ...(claim.uid === undefined ? {} : { uid: claim.uid }),
      },
      type: 'Warning',
      reason: reasonOf(loss),
      message: messageOfLoss(loss),
      source: { component },
      reportingComponent: component,
      reportingInstance: instance.slice(0, 128),
      firstTimestamp: time,
      lastTimestamp: time,
      count: 1,
    };
  }
}

const reasonOf = ({ isObjectDeleted }: Loss): string =>
  isObjectDeleted ? 'NodeDeleted' : 'NodeUnreachable';

function messageOfLoss({ node, isObjectDeleted }: Loss): string {
  const what = isObjectDeleted
    ? `whose Node object was deleted, and whose driver is not reached`
    : `whose driver has not been reached for 10 minutes or more`;
  return `The data of this claim is on node '${node}', ${what}. It is not lost: it is there again with the node. If the node never comes back, an administrator gives it up with: kubectl loopcsi node forget ${node}; then this claim can be deleted.`;
}

/** The name of a claim has up to 253 characters, as that of an event. */
function nameOf({ namespace, name, uid = '' }: Claim, loss: Loss): string {
  const digest = createHash('sha256')
    .update(JSON.stringify([namespace, name, uid, loss.node, reasonOf(loss)]))
    .digest('hex');
  return `${name.slice(0, 230).replace(/[.-]+$/, '')}.${digest.slice(0, 16)}`;
}
