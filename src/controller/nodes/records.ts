/**
 * What has to be known about nodes that do not answer: that an operator, or the policy of node loss, has forgotten them, and when
 * their Node object was deleted.
 */
import * as v from 'valibot';
import { messageOf, VolumeError } from '../../errors.ts';
import { nodeTagOf } from '../../ids.ts';
import type { Logger } from '../../observe/log.ts';
import type { NodeStore } from './node-store.ts';

const time = v.pipe(v.string(), v.isoTimestamp());

/** Fields of later versions are kept. */
const recordSchema = v.looseObject({
  /** The node's id. */
  name: v.pipe(v.string(), v.nonEmpty()),
  forgotten: v.optional(
    v.nullable(
      v.looseObject({
        at: time,
        by: v.picklist(['operator', 'policy']),
        /** Addresses of its agents. An agent there that has never said which node it is counts as that of this node. */
        addresses: v.array(v.string()),
      }),
    ),
    null,
  ),
  /** When it was first seen that the Node object does not exist; null if it exists. */
  objectDeletedAt: v.optional(v.nullable(time), null),
});

const textSchema = v.looseObject({
  schemaVersion: v.literal(1),
  nodes: v.array(recordSchema),
});
type Text = v.InferOutput<typeof textSchema>;

export type NodeRecord = Readonly<v.InferOutput<typeof recordSchema>>;
export type ForgetReason = NonNullable<NodeRecord['forgotten']>['by'];

/** Nodes that are lost for good, as far as routing has to know. */
export interface Forgotten {
  /** The forgotten node with this tag, and when it was forgotten. */
  readonly find: (tag: string) => { readonly name: string; readonly at: string } | undefined;
  /** The name of the forgotten node whose agent had this address. */
  readonly nameAt: (address: string) => string | undefined;
  /** Why it is not known which nodes are forgotten; undefined if it is known. */
  readonly problem: string | undefined;
}

export const nothingForgotten: Forgotten = {
  find: () => undefined,
  nameAt: () => undefined,
  problem: undefined,
};

interface RecordsOptions {
  /** Absent if the controller was started without records: then no node can be forgotten. */
  readonly store: NodeStore | undefined;
  readonly log: Logger;
}

/**
 * The records, as last read. Until they have been read for the first time, calls must not be routed: a node that was forgotten would
 * serve again, or a call for its volumes would fail.
 */
export class NodeRecords implements Forgotten {
  readonly #options: RecordsOptions;
  #byTag: ReadonlyMap<string, NodeRecord> = new Map();
  #problem: string | undefined;
  #follower: { close(): void } | undefined;

  constructor(options: RecordsOptions) {
    this.#options = options;
    const { store } = options;
    this.#problem =
      store === undefined ? undefined : `${store.description} has not been read yet; retry later`;
  }

  /** Follows the store until `close`. `onChange` is called after the first read and after every change. */
  follow(onChange: () => void): void {
    const { store } = this.#options;
    if (store === undefined) onChange();
    else {
      this.#follower = store.follow((text) => {
        if (this.#adopt(text)) onChange();
      });
    }
  }

  close(): void {
    this.#follower?.close();
  }

  /** Why the last text cannot be used; undefined if it can. */
  get problem(): string | undefined {
    return this.#problem;
  }

  find(tag: string): { readonly name: string; readonly at: string } | undefined {
    const record = this.#byTag.get(tag);
    const forgotten = record?.forgotten;
    return record === undefined || forgotten === undefined || forgotten === null
      ? undefined
      : { name: record.name, at: forgotten.at };
  }

  nameAt(address: string): string | undefined {
    return this.all().find(({ forgotten }) => forgotten?.addresses.includes(address))?.name;
  }

  /** All records, by name. */
  all(): readonly NodeRecord[] {
    return [...this.#byTag.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1));
  }

  /**
   * Forgets a node, durably. Returns false if it was forgotten already. Idempotent. Throws `wrong-state` without a store,
   * `unavailable` if it cannot be written.
   */
  async forget(
    name: string,
    { by, addresses }: { readonly by: ForgetReason; readonly addresses: readonly string[] },
  ): Promise<boolean> {
    let isNew = true;
    await this.#change(name, (record) => {
      isNew = (record.forgotten ?? null) === null;
      return isNew
        ? { ...record, forgotten: { at: timeText(Date.now()), by, addresses: [...addresses] } }
        : record;
    });
    return isNew;
  }

  /** Undoes `forget`, durably. Returns false if the node was not forgotten. Idempotent. Throws as `forget` does. */
  async remember(name: string): Promise<boolean> {
    let wasForgotten = false;
    await this.#change(name, (record) => {
      wasForgotten = (record.forgotten ?? null) !== null;
      // If the Node object still does not exist, the time of the policy begins anew.
      return wasForgotten ? { ...record, forgotten: null, objectDeletedAt: null } : record;
    });
    return wasForgotten;
  }

  /** Notes whether the Node object exists at `atMs`, in milliseconds since 1970. The time of the first note of a deletion stays until it exists again. */
  async noteObject(
    name: string,
    { exists, atMs }: { readonly exists: boolean; readonly atMs: number },
  ): Promise<void> {
    const known = this.#byTag.get(nodeTagOf(name))?.objectDeletedAt ?? null;
    if (exists === (known === null)) return;
    await this.#change(name, (record) => ({
      ...record,
      objectDeletedAt: exists ? null : (record.objectDeletedAt ?? timeText(atMs)),
    }));
  }

  async #change(name: string, change: (record: NodeRecord) => NodeRecord): Promise<void> {
    const { store } = this.#options;
    if (store === undefined) {
      throw new VolumeError(
        'wrong-state',
        'this controller keeps no records of nodes: start it with --node-records file://PATH, or configmap://NAMESPACE/NAME in Kubernetes',
      );
    }
    try {
      const text = await store.update((current) => {
        const { nodes, ...rest } = decode(current);
        const earlier = nodes.find((one) => one.name === name);
        const changed = change(earlier ?? { name, forgotten: null, objectDeletedAt: null });
        const others = nodes.filter((one) => one.name !== name);
        const kept = isEmpty(changed) ? others : [...others, changed];
        return `${JSON.stringify({ ...rest, nodes: kept }, undefined, 2)}\n`;
      });
      this.#adopt(text);
    } catch (error) {
      if (error instanceof VolumeError) throw error;
      throw new VolumeError(
        'unavailable',
        `${store.description} was not written: ${messageOf(error)}`,
        { cause: error },
      );
    }
  }

  /** Returns whether the text can be used. One that cannot leaves the last records in use. */
  #adopt(text: string | undefined): boolean {
    const { store, log } = this.#options;
    try {
      const { nodes } = decode(text);
      this.#byTag = new Map(nodes.map((record) => [nodeTagOf(record.name), record]));
      this.#problem = undefined;
      return true;
    } catch (error) {
      this.#problem = `${store?.description ?? ''} cannot be used: ${messageOf(error)}; correct it, or restore it from a backup`;
      log.error({ problem: this.#problem }, 'the records of nodes are not usable');
      return false;
    }
  }
}

const timeText = (ms: number): string => new Date(ms).toISOString();

/** A node of which nothing has to be known any more. */
function isEmpty(record: NodeRecord): boolean {
  const known = ['name', 'forgotten', 'objectDeletedAt'];
  return (
    record.forgotten === null &&
    record.objectDeletedAt === null &&
    Object.keys(record).every((key) => known.includes(key))
  );
}

/** A text that cannot be decoded is never treated as empty: all forgotten nodes would be back. */
function decode(text: string | undefined): Text {
  if (text === undefined || text.trim() === '') return { schemaVersion: 1, nodes: [] };
  try {
    return v.parse(textSchema, JSON.parse(text));
  } catch (error) {
    throw new VolumeError(
      'unavailable',
      `its content is damaged or of a newer version (${messageOf(error)})`,
      {
        cause: error,
      },
    );
  }
}
