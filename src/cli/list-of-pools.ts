/** Lists of what pools contain, with a warning for each pool of which nothing is known. */
import { type Listing, type ListOptions, showList } from './list.ts';
import type { Session } from './session.ts';

/** Shows a list as `showList` does. On a terminal the warnings are below the table, for programs they are on standard error. */
export async function showListOfPools<T>(
  session: Session,
  listing: Omit<Listing<T>, 'remarks'>,
  options: ListOptions & { readonly pool?: string },
): Promise<void> {
  let warnings: readonly string[] = [];
  const load = async (): Promise<readonly T[]> => {
    const [rows, found] = await Promise.all([listing.load(), findUnreadPools(session, options)]);
    warnings = found;
    return rows;
  };
  const shown: Listing<T> = {
    ...listing,
    load,
    remarks: () => warnings,
    // Read after `load`: an empty list that lacks a pool does not mean that there is nothing.
    get whenEmpty() {
      return warnings.length === 0 ? listing.whenEmpty : warnings.join('\n');
    },
  };
  await showList(session, shown, options);
  if (session.isText && options.quiet !== true) return;
  for (const warning of warnings) session.terminal.printError(warning);
}

/** The warnings of this list in what a command has written to standard error. */
export function unreadPoolWarnings(text: string): readonly string[] {
  return text.match(/^What pool '[^']+' contains is missing here, .*$/gm) ?? [];
}

async function findUnreadPools(
  session: Session,
  { pool }: { readonly pool?: string },
): Promise<readonly string[]> {
  const { admin } = await session.driver();
  const { pools } = await admin.ListPools({});
  return pools
    .filter(({ never_read, name }) => never_read && (pool === undefined || name === pool))
    .map(
      ({ name, reason }) =>
        `What pool '${name}' contains is missing here, because it has not been read since the driver started: ${reason}`,
    );
}
