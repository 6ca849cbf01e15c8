/** Whether this process may open the files that the connections to all agents need. */
import { readFile } from 'node:fs/promises';
import type { Logger } from '../../observe/log.ts';
import type { Discovery } from './discovery.ts';

/** Connections of sidecars, and files of the process itself. */
const otherFiles = 256;
/** While certificates are replaced, an agent has a new connection beside the one that still has calls. */
const filesPerAgent = 2;

/** The limit of open files of this process (setrlimit(2), RLIMIT_NOFILE). Node raises the soft limit to the hard one at its start. */
async function maxOpenFiles(): Promise<number> {
  const limits = await readFile('/proc/self/limits', 'utf8').catch(() => '');
  const soft = /^Max open files\s+(\d+)/m.exec(limits)?.[1];
  return soft === undefined ? Infinity : Number(soft);
}

/** The same discovery, which warns when its agents need more open files than the limit. */
export async function withFileLimit(
  discovery: Discovery,
  log: Logger,
  findLimit = maxOpenFiles,
): Promise<Discovery> {
  const limit = await findLimit();
  let warnedOf = 0;
  return {
    watch: (onChange) =>
      discovery.watch((endpoints) => {
        const needed = filesPerAgent * endpoints.length + otherFiles;
        if (needed > limit && endpoints.length > warnedOf) {
          warnedOf = endpoints.length;
          log.warn(
            { agents: endpoints.length, limit, needed },
            'limit of open files is too low, so some agents may stay unreachable: raise it (LimitNOFILE, ulimit -n)',
          );
        }
        onChange(endpoints);
      }),
  };
}
