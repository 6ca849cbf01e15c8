import { VolumeError } from '../../errors.ts';
import type { EntryId, EntryName, FoundName } from '../../ids.ts';
import type { Page } from '../model.ts';
import type { SetAside } from './set-aside.ts';

/** Records of one kind by id, sorted for paging. Entries that are set aside are stored separately. */
export class RecordIndex<T extends { readonly id: EntryId }> {
  readonly #records = new Map<EntryName, T>();
  readonly #aside = new Map<EntryName, SetAside>();
  #sorted: readonly T[] | undefined;

  /** Entries that are set aside, by name. */
  get aside(): ReadonlyMap<EntryName, SetAside> {
    return this.#aside;
  }

  get size(): number {
    return this.#records.size;
  }

  get(name: T['id'] | FoundName): T | undefined {
    return this.#records.get(name);
  }

  put(record: T): void {
    this.#records.set(record.id, record);
    this.#aside.delete(record.id);
    this.#sorted = undefined;
  }

  setAside(name: T['id'] | FoundName, why: SetAside): void {
    if (this.#records.delete(name)) this.#sorted = undefined;
    this.#aside.set(name, why);
  }

  delete(name: T['id'] | FoundName): void {
    if (this.#records.delete(name)) this.#sorted = undefined;
    this.#aside.delete(name);
  }

  /** Deletes all other entries. */
  keepOnly(names: ReadonlySet<EntryName>): void {
    for (const name of [...this.#records.keys(), ...this.#aside.keys()]) {
      if (!names.has(name)) this.delete(name);
    }
  }

  values(): IterableIterator<T> {
    return this.#records.values();
  }

  /** All records, ascending by id. Ids are ASCII, so UTF-16 order is byte order. */
  sorted(): readonly T[] {
    this.#sorted ??= [...this.#records.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
    return this.#sorted;
  }
}

const tokenForm = /^after\.([A-Za-z0-9._-]{1,128})$/;

/**
 * One page of `entries`, which are sorted by id. The token contains the last id of the previous page, so entries that are added or
 * removed in between neither repeat nor hide others. Throws `stale-token` for a token of another form (CSI spec, "ListVolumes
 * Errors").
 */
export function pageOf<T>(
  entries: readonly T[],
  page: { maxEntries: number; startingToken: string; idOf: (entry: T) => string },
): Page<T> {
  const { maxEntries, startingToken, idOf } = page;
  const start = startOf(entries, startingToken, idOf);
  const end = maxEntries === 0 ? entries.length : Math.min(entries.length, start + maxEntries);
  const last = entries[end - 1];
  const nextToken = end < entries.length && last !== undefined ? `after.${idOf(last)}` : '';
  return { entries: entries.slice(start, end), nextToken };
}

/** The entries of one index that the page may contain. A page over several indexes merges the candidates of each. */
export function candidatesFor<T>(
  entries: readonly T[],
  page: { maxEntries: number; startingToken: string; idOf: (entry: T) => string },
): readonly T[] {
  const start = startOf(entries, page.startingToken, page.idOf);
  // One more than fits on the page, which shows whether another page follows.
  return entries.slice(start, page.maxEntries === 0 ? undefined : start + page.maxEntries + 1);
}

function startOf<T>(
  entries: readonly T[],
  startingToken: string,
  idOf: (entry: T) => string,
): number {
  if (startingToken === '') return 0;
  const after = tokenForm.exec(startingToken)?.[1];
  if (after !== undefined) return firstAfter(entries, after, idOf);
  throw new VolumeError(
    'stale-token',
    `starting_token '${startingToken.slice(0, 64)}' is not a token of this driver; start again without one`,
  );
}

function firstAfter<T>(entries: readonly T[], after: string, idOf: (entry: T) => string): number {
  let low = 0;
  let high = entries.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const entry = entries[middle];
    if (entry !== undefined && idOf(entry) <= after) low = middle + 1;
    else high = middle;
  }
  return low;
}
