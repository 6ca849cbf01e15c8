/** PostgreSQL from Debian's packages on a booted machine, with a data directory that a test chooses. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Machine } from './machine.ts';

export const postgresPackage = 'postgresql';

/** Debian's packages would make a cluster of their own. To be written before they are installed. */
export const postgresConfig = {
  path: '/etc/postgresql-common/createcluster.conf',
  text: 'create_main_cluster = false\n',
} as const;

export interface Postgres {
  /** Makes a new database in an existing directory. */
  makeDatabase(directory: string): Promise<void>;
  /** Serves the database in `directory` while `work` runs, and stops it in order. */
  serve<T>(directory: string, work: (sql: Query) => Promise<T>): Promise<T>;
}

/** Returns the rows as text, their columns separated by `|`. */
type Query = (text: string) => Promise<string>;

const unit = 'postgres-of-test';

export async function findPostgres(machine: Machine): Promise<Postgres> {
  const root = '/usr/lib/postgresql';
  const [version] = await readdir(machine.seen(root));
  if (version === undefined) throw new Error(`${root} is empty`);
  const program = (name: string): string => join(root, version, 'bin', name);
  const asPostgres = (...argv: readonly string[]): Promise<string> =>
    machine.run('env', '--chdir=/', 'runuser', '-u', 'postgres', '--', ...argv);
  return {
    makeDatabase: async (directory) => {
      await asPostgres(program('initdb'), '--no-sync', '--data-checksums', '-D', directory);
    },
    serve: async (directory, work) => {
      await machine.run(
        'systemd-run',
        ...[`--unit=${unit}`, '--uid=postgres', '--collect'],
        // As Debian's own unit: started once it accepts connections, and stopped without waiting for clients.
        ...['--property=Type=notify', '--property=KillSignal=SIGINT'],
        ...[program('postgres'), '-D', directory, '-c', 'listen_addresses='],
      );
      try {
        return await work((text) => asPostgres('psql', '-At', '-c', text));
      } finally {
        await machine.run('systemctl', 'stop', unit);
      }
    },
  };
}
