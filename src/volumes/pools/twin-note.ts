import { join } from 'node:path';

/** In the directory of an entry that is set aside as a twin. */
export const twinNoteName = 'twin.json';

/** What a person is told of an entry whose id another pool uses, or used when the entry was set aside. */
export function twinMessage(
  entry: string,
  { id, usedPoolName }: { readonly id: string; readonly usedPoolName?: string },
): string {
  const other = usedPoolName === undefined ? 'another pool' : `pool '${usedPoolName}'`;
  return (
    `'${id}' was found in ${other} too, so ${entry} is not used and is never deleted by the driver; ` +
    `look at it and move it out of the pool, or, to use it once the other one is deleted, remove ${join(entry, twinNoteName)}`
  );
}
