/**
 * Separate process, a controller as far as its records go: records-writer PATH NAME... forgets the nodes of these names, one after the
 * other. With the name `hang` it stops for ever once it has the lock of the file, and prints a line then.
 */
import { pino } from 'pino';
import { FileStore } from '../../src/controller/nodes/file-store.ts';
import { NodeRecords } from '../../src/controller/nodes/records.ts';

const [path, ...names] = process.argv.slice(2);
if (path !== undefined) {
  const log = pino({ level: 'silent' });
  const isHanging = names[0] === 'hang';
  const store = await FileStore.open({
    path,
    log,
    reached: async () => {
      if (!isHanging) return;
      process.stdout.write('locked\n');
      await new Promise((resolve) => setTimeout(resolve, 2 ** 31 - 1));
    },
  });
  const records = new NodeRecords({ store, log });
  for (const name of names) await records.forget(name, { by: 'operator', addresses: [] });
}
