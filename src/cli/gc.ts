/** `loopcsi gc`, and the removal of leftovers by `loopcsi doctor --fix`. */
import type { Command } from 'commander';
import type { Leftover } from '../csi/admin-types.ts';
import { FailedError } from './errors.ts';
import { type Column, count, formatSize } from './output.ts';
import type { Session } from './session.ts';

export function addGcCommand(program: Command, session: Session): void {
  program
    .command('gc')
    .description('list what crashes or other programs left over, and remove it after confirmation')
    .option('--dry-run', 'only list')
    .option('--yes', 'do not ask for confirmation')
    .action(collect.bind(null, session));
}

const columns: readonly Column<Leftover>[] = [
  { title: 'KIND', text: ({ kind }) => kind },
  { title: 'BYTES', align: 'right', text: ({ bytes }) => formatSize(bytes) },
  { title: 'PATH', text: ({ path }) => path },
  { title: 'WHY', text: ({ why, remedy }) => (remedy === '' ? why : `${why}; ${remedy}`) },
];

async function collect(
  session: Session,
  options: { readonly dryRun?: boolean; readonly yes?: boolean },
): Promise<void> {
  const { admin } = await session.driver();
  const { leftovers } = await admin.ListLeftovers({});
  if (options.dryRun === true) {
    await session.show(leftovers.map(leftoverAsJson), async () => {
      if (leftovers.length === 0) return 'Nothing is left over.';
      const { formatTable } = await import('./table.ts');
      return formatTable(session.terminal, leftovers, columns);
    });
    return;
  }
  const manual = leftovers.filter(({ remedy }) => remedy !== '');
  if (session.isText) {
    for (const { path, why, remedy } of manual) {
      session.terminal.print(`Not removed: ${path}: ${why}; ${remedy}`);
    }
  }
  const results = await removeLeftovers(session, leftovers, options);
  await session.show(results, () =>
    results.length === 0 ? 'Nothing was left to remove.' : 'Done.',
  );
  requireRemoved(session, results);
}

interface Removal {
  readonly path: string;
  /** Why it was not removed; null if it was. */
  readonly problem: string | null;
}

/** Removes those leftovers that the driver can remove, after confirmation. Prints each result. */
export async function removeLeftovers(
  session: Session,
  leftovers: readonly Leftover[],
  { yes = false }: { readonly yes?: boolean },
): Promise<readonly Removal[]> {
  const removable = leftovers.filter(({ remedy }) => remedy === '');
  if (removable.length === 0) return [];
  const lines = removable.map(
    ({ kind, path, bytes, why }) => `  ${kind} ${path}, ${formatSize(bytes)}: ${why}`,
  );
  const question = `Remove ${count(removable.length, 'leftover')}?`;
  if (yes && session.isText)
    session.terminal.print(['These will be removed:', ...lines].join('\n'));
  if (!yes && !(await session.terminal.confirm(question, ['These will be removed:', ...lines]))) {
    throw new FailedError('nothing was removed');
  }
  const { admin } = await session.driver();
  const { results } = await admin.RemoveLeftovers({ paths: removable.map(({ path }) => path) });
  const removals = results.map(({ path, problem }) => {
    return { path, problem: problem === '' ? null : problem };
  });
  for (const { path, problem } of session.isText ? removals : []) {
    session.terminal.print(
      problem === null ? `Removed ${path}.` : `Not removed: ${path}: ${problem}`,
    );
  }
  return removals;
}

/** Fails if one of them could not be removed. */
export function requireRemoved(session: Session, removals: readonly Removal[]): void {
  if (removals.every(({ problem }) => problem === null)) return;
  throw new FailedError(session.isText ? 'some leftovers could not be removed' : '');
}

/** docs/command-line.md lists the keys. */
function leftoverAsJson({ kind, path, pool, bytes, why, remedy }: Leftover) {
  return {
    kind,
    path,
    pool: pool === '' ? null : pool,
    bytes,
    why,
    remedy: remedy === '' ? null : remedy,
  };
}
