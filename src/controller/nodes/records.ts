/**
 * What has to be known about nodes that do not answer: that an operator, or the policy of node loss, has forgotten them, and when
 * their Node object was deleted.
 */
import * as v from 'valibot';
import { callPeriodically } from '../../async.ts';
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
  /** The names of all of them. */
  readonly names: readonly string[];
  /** Whether no node is forgotten. */
  readonly isEmpty: boolean;
  /** The name of the forgotten node whose agent had this address. */
  readonly nameAt: (address: string) => string | undefined;
  /** Has to be called when another node is at the address of a forgotten one: `nameAt` does not name the forgotten one any more. */
  readonly addressTaken: (address: string) => void;
  /** Why it is not known which nodes are forgotten; undefined if it is known. */
  readonly problem: string | undefined;
}

export const nothingForgotten: Forgotten = {
  find: () => undefined,
  names: [],
  isEmpty: true,
  nameAt: () => undefined,
  addressTaken: () => undefined,
  problem: undefined,
};

interface RecordsOptions {
  /** Absent if the controller was started without records: then no node can be forgotten. */
  readonly store: NodeStore | undefined;
  readonly log: Logger;
  /** Milliseconds until a write that nobody waits for is tried again. */
  readonly retryMs?: number;
}

/**
 * The records, as last read. Until they have been read for the first time, calls must not be routed: a node that was forgotten would
 * serve again, or a call for its volumes would fail.
 */
export class NodeRecords implements Forgotten {
  readonly #options: RecordsOptions;
  #byTag: ReadonlyMap<string, NodeRecord> = new Map();
  /** The names of forgotten nodes by the addresses of their agents. */
  #byAddress: ReadonlyMap<string, string> = new Map();
  /** Addresses at which other nodes are, until the records say so, and what ends the attempts to write that. */
  readonly #taken = new Map<string, () => void>();
  #names: readonly string[] = [];
  #problem: string | undefined;
  /** The last text with records; undefined if there was none. It is what counts, and is written again, if the stored one vanishes. */
  #text: string | undefined;
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
      this.#follower = store.follow(
        (text) => {
          if (this.#adopt(text)) onChange();
        },
        (problem) => {
          this.#reject(problem);
        },
      );
    }
  }

  close(): void {
    this.#follower?.close();
    for (const stop of this.#taken.values()) stop();
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
    return this.#taken.has(address) ? undefined : this.#byAddress.get(address);
  }

  get names(): readonly string[] {
    return this.#names;
  }

  get isEmpty(): boolean {
    return this.#names.length === 0;
  }

  /**
   * Removes the address from the record of the forgotten node, durably: after a restart, the other node must not count as the
   * forgotten one until its agent has answered. Tries again until it is written.
   */
  addressTaken(address: string): void {
    const name = this.nameAt(address);
    if (name === undefined) return;
    const write = async (): Promise<number> => {
      try {
        await this.#change(name, (record) => withoutAddress(record, address));
        this.#taken.get(address)?.();
        this.#taken.delete(address);
      } catch (error) {
        const fields = { node: name, address, problem: messageOf(error) };
        this.#options.log.warn(fields, 'the address of a forgotten node was not given up yet');
      }
      return this.#options.retryMs ?? 30_000;
    };
    this.#taken.set(address, callPeriodically(write, 0));
  }

  /** All records, by name. */
  all(): readonly NodeRecord[] {
    return [...this.#byTag.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1));
  }

  /**
   * Forgets a node, durably. Returns false if it was forgotten already; then further addresses are added. Idempotent. Throws `wrong-state` without a store,
   * `unavailable` if it cannot be written.
   */
  async forget(
    name: string,
    { by, addresses }: { readonly by: ForgetReason; readonly addresses: readonly string[] },
  ): Promise<boolean> {
    let isNew = true;
    await this.#change(name, (record) => {
      const { forgotten } = record;
      isNew = forgotten === null;
      if (forgotten === null)
        return {
          ...record,
          forgotten: { at: timeText(Date.now()), by, addresses: [...addresses] },
        };
      const all = [...new Set([...forgotten.addresses, ...addresses])];
      return all.length === forgotten.addresses.length
        ? record
        : { ...record, forgotten: { ...forgotten, addresses: all } };
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
        const { nodes, ...rest } = decode(isBlank(current) ? this.#text : current);
        const earlier = nodes.find((one) => one.name === name);
        const changed = change(earlier ?? { name, forgotten: null, objectDeletedAt: null });
        if (changed === earlier && current !== undefined && !isBlank(current)) return current;
        const others = nodes.filter((one) => one.name !== name);
        const kept = isEmpty(changed) ? others : [...others, changed];
        return `${JSON.stringify({ ...rest, nodes: kept }, undefined, 2)}\n`;
      });
      this.#adopt(text);
    } catch (error) {
      if (error instanceof VolumeError) throw error;
      throw new VolumeError(
        'unavailable',
        `${store.description} was perhaps not written: ${messageOf(error)}; loopcsi node list shows it, and the command can be repeated`,
        { cause: error },
      );
    }
  }

  /** Returns whether the text can be used. One that cannot leaves the last records in use. */
  #adopt(text: string | undefined): boolean {
    const what = this.#options.store?.description ?? '';
    if (isBlank(text) && this.#text !== undefined) {
      this.#reject(
        `${what} has vanished or is empty, and what was read last stays in use; restore it from a backup, or forget or remember a node, which writes all records again`,
      );
      return false;
    }
    try {
      const { nodes } = decode(text);
      this.#byTag = new Map(nodes.map((record) => [nodeTagOf(record.name), record]));
      this.#names = nodes.flatMap(({ name, forgotten }) => (forgotten === null ? [] : [name]));
      this.#byAddress = new Map(addressesOf(nodes));
      this.#text = isBlank(text) ? undefined : text;
      this.#problem = undefined;
      return true;
    } catch (error) {
      this.#reject(
        `${what} cannot be used: ${messageOf(error)}; correct it, or restore it from a backup`,
      );
      return false;
    }
  }

  #reject(problem: string): void {
    this.#problem = problem;
    this.#options.log.error({ problem }, 'the records of nodes are not usable');
  }
}

const isBlank = (text: string | undefined): boolean => text === undefined || text.trim() === '';

function addressesOf(records: readonly NodeRecord[]): readonly (readonly [string, string])[] {
  return records.flatMap(({ name, forgotten }) =>
    (forgotten?.addresses ?? []).map((address) => [address, name] as const),
  );
}

function withoutAddress(record: NodeRecord, address: string): NodeRecord {
  const { forgotten } = record;
  if (!forgotten?.addresses.includes(address)) return record;
  const addresses = forgotten.addresses.filter((one) => one !== address);
  return { ...record, forgotten: { ...forgotten, addresses } };
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
  if (text === undefined || isBlank(text)) return { schemaVersion: 1, nodes: [] };
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
