/**
 * Keeps a copy of a collection of the API: a list, then a watch from its resourceVersion. While the API server does not answer,
 * the last copy stays.
 */
import { setTimeout as delay } from 'node:timers/promises';
import * as v from 'valibot';
import { messageOf } from '../../errors.ts';
import type { Logger } from '../../observe/log.ts';
import { decodeObject, hasStatus, type KubeClient, KubeError, type KubeObject } from './client.ts';

interface FollowOptions {
  readonly client: KubeClient;
  /** Path of the collection, without a query: `/api/v1/namespaces/a/pods`. */
  readonly path: string;
  readonly labelSelector?: string;
  readonly fieldSelector?: string;
  readonly log: Logger;
  /** Receives all objects after the first list and after every change. It must not throw. */
  readonly onChange: (objects: readonly KubeObject[]) => void;
  readonly timing?: FollowTiming;
}

interface FollowTiming {
  /** Pause after a failure; it doubles up to `maxPauseMs`. */
  readonly pauseMs: number;
  readonly maxPauseMs: number;
  /** The server is asked to end a watch after this time, and the client ends it a tenth later. */
  readonly watchMs: number;
}

/** A connection that is dead without being closed hides changes for at most `watchMs` and a tenth of it. */
const defaultTiming: FollowTiming = { pauseMs: 500, maxPauseMs: 30_000, watchMs: 240_000 };

const listSchema = v.looseObject({
  metadata: v.looseObject({ resourceVersion: v.string() }),
  items: v.array(v.unknown()),
});
const eventSchema = v.object({
  type: v.picklist(['ADDED', 'MODIFIED', 'DELETED', 'BOOKMARK', 'ERROR']),
  object: v.looseObject({ code: v.optional(v.number()), message: v.optional(v.string()) }),
});

/** Follows the collection until it is closed. */
export function followList(options: FollowOptions): { close(): void } {
  const ended = new AbortController();
  void new Follower(options, ended.signal).run();
  return {
    close: () => {
      ended.abort();
    },
  };
}

class Follower {
  readonly #options: FollowOptions;
  readonly #timing: FollowTiming;
  readonly #ended: AbortSignal;
  readonly #objects = new Map<string, KubeObject>();
  /** undefined: the collection has to be listed. */
  #version: string | undefined;
  #failures = 0;

  constructor(options: FollowOptions, ended: AbortSignal) {
    this.#options = options;
    this.#timing = options.timing ?? defaultTiming;
    this.#ended = ended;
  }

  async run(): Promise<void> {
    while (!this.#ended.aborted) {
      try {
        if (this.#version === undefined) await this.#list();
        else await this.#watch(this.#version);
      } catch (error) {
        if (this.#ended.aborted) return;
        await this.#recover(error);
      }
    }
  }

  async #list(): Promise<void> {
    const { client, path } = this.#options;
    const list = v.parse(listSchema, await client.get(`${path}?${this.#query({})}`));
    const objects = list.items.map(decodeObject);
    this.#objects.clear();
    for (const object of objects) this.#objects.set(keyOf(object), object);
    this.#version = list.metadata.resourceVersion;
    this.#emit();
  }

  async #watch(from: string): Promise<void> {
    const { watchMs } = this.#timing;
    const { client, path } = this.#options;
    const query = this.#query({
      watch: 'true',
      allowWatchBookmarks: 'true',
      resourceVersion: from,
      timeoutSeconds: String(Math.ceil(watchMs / 1000)),
    });
    const timeout = AbortSignal.timeout(Math.ceil(watchMs * 1.1));
    const startMs = performance.now();
    try {
      const events = client.watch(`${path}?${query}`, AbortSignal.any([this.#ended, timeout]));
      for await (const event of events) this.#apply(event);
    } catch (error) {
      // A silent connection is replaced, which is no failure: most collections rarely change.
      if (!timeout.aborted) throw error;
    }
    // A server, or a proxy before it, that ends each watch at once must not be asked without a pause.
    if (performance.now() - startMs < this.#timing.pauseMs) await this.#pause();
  }

  #apply(value: unknown): void {
    const { type, object } = v.parse(eventSchema, value);
    if (type === 'ERROR') {
      throw new KubeError(object.code ?? 0, `the watch ended: ${object.message ?? 'no message'}`);
    }
    this.#recovered();
    // A bookmark has a name only in some versions.
    const { metadata } = v.parse(versionedSchema, object);
    this.#version = metadata.resourceVersion;
    if (type === 'BOOKMARK') return;
    const changed = decodeObject(object);
    if (type === 'DELETED') this.#objects.delete(keyOf(changed));
    else this.#objects.set(keyOf(changed), changed);
    this.#emit();
  }

  #emit(): void {
    this.#recovered();
    this.#options.onChange([...this.#objects.values()]);
  }

  #recovered(): void {
    if (this.#failures > 1) this.#options.log.info({ path: this.#options.path }, 'watch restored');
    this.#failures = 0;
  }

  /** 410: the server no longer has the changes since our version. An event that cannot be read may have hidden a change. */
  async #recover(error: unknown): Promise<void> {
    const isExpired = hasStatus(error, 410);
    if (isExpired || error instanceof v.ValiError || error instanceof SyntaxError) {
      this.#version = undefined;
    }
    // One broken connection is usual, for example when an API server is replaced.
    if (!isExpired && this.#failures === 1) {
      const fields = { path: this.#options.path, problem: messageOf(error) };
      this.#options.log.warn(fields, 'the API server did not answer; the last list stays in use');
    }
    await this.#pause();
  }

  async #pause(): Promise<void> {
    const { pauseMs, maxPauseMs } = this.#timing;
    const ms = Math.min(pauseMs * 2 ** Math.min(this.#failures, 16), maxPauseMs);
    this.#failures += 1;
    // Jitter: all controllers lose the same API server at the same moment.
    await delay(ms * (0.5 + Math.random() / 2), undefined, { signal: this.#ended }).catch(
      () => undefined,
    );
  }

  #query(parameters: Readonly<Record<string, string>>): string {
    const { labelSelector, fieldSelector } = this.#options;
    return new URLSearchParams({
      ...parameters,
      ...(labelSelector === undefined ? {} : { labelSelector }),
      ...(fieldSelector === undefined ? {} : { fieldSelector }),
    }).toString();
  }
}

const versionedSchema = v.looseObject({
  metadata: v.looseObject({ resourceVersion: v.string() }),
});

const keyOf = ({ metadata }: KubeObject): string => `${metadata.namespace ?? ''}/${metadata.name}`;
