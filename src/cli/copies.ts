/** Copies between this node and others that have not ended. */
import type { Copy } from '../csi/admin-types.ts';
import { failureOf } from './errors.ts';
import { formatFields, formatPromisedSize, formatSize } from './output.ts';
import type { Session } from './session.ts';

/** docs/command-line.md lists the keys. */
function copyAsJson(copy: Copy) {
  return {
    copyName: copy.copy_name,
    peer: copy.peer,
    waiting: copy.waiting,
    doneBytes: copy.done_bytes,
    totalBytes: copy.total_bytes,
  };
}

/** The other nodes that read a snapshot or volume of this one. */
export async function listReaders(
  session: Session,
  { kind, id }: { readonly kind: 'snapshot' | 'volume'; readonly id: string },
): Promise<{ readonly json: readonly unknown[]; readonly texts: readonly string[] }> {
  const { admin } = await session.driver();
  const { copies } = await admin.ListCopies({});
  const readers = copies.filter(
    ({ direction, source_kind, source_id }) =>
      direction === 'send' && source_kind === kind && source_id === id,
  );
  return {
    json: readers.map(copyAsJson),
    texts: readers.map((copy) => `${copy.peer} for volume '${copy.copy_name}': ${stateOf(copy)}`),
  };
}

/**
 * Shows a volume that is being copied from another node, which does not exist yet. Throws `notFound`, the error of the search for the
 * volume, if there is none of that name.
 */
export async function showReceivedCopy(
  session: Session,
  name: string,
  notFound: unknown,
): Promise<void> {
  if (failureOf(notFound).code !== 'NOT_FOUND') throw notFound;
  const { admin } = await session.driver();
  const { copies } = await admin.ListCopies({});
  const copy = copies.find(
    ({ direction, copy_name }) => direction === 'receive' && copy_name === name,
  );
  if (copy === undefined) throw notFound;
  const { source_kind: kind, source_id: id } = copy;
  await session.show({ name, id: null, source: { kind, id }, copy: copyAsJson(copy) }, () =>
    formatFields(session.terminal, [
      ['Name', name],
      ['Source', `${kind} ${id} on node ${copy.peer}`],
      ['State', `being copied: ${stateOf(copy)}`],
    ]),
  );
}

function stateOf({ waiting, done_bytes: done, total_bytes: total }: Copy): string {
  if (waiting) return 'waits until other copies have ended';
  if (total === 0n) return 'has begun';
  return `${(done * 100n) / total} %, ${formatSize(done)} of ${formatPromisedSize(total)}`;
}
