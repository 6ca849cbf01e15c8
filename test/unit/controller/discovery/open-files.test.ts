import test from 'ava';
import { withFileLimit } from '../../../../src/controller/discovery/open-files.ts';
import { changeableDiscovery } from '../../../helpers/controller.ts';
import { memoryLog } from '../../../helpers/csi-server.ts';

const addresses = (count: number): readonly string[] =>
  Array.from({ length: count }, (_, index) => `10.0.0.${index}:9737`);

test('more agents than the limit of open files allows are warned of once, and passed on', async (t) => {
  const { log, lines } = memoryLog();
  const discovery = changeableDiscovery();
  const seen: number[] = [];
  const limited = await withFileLimit(discovery, log, async () => 300);
  limited.watch((endpoints) => seen.push(endpoints.length));
  discovery.set(addresses(22));
  t.deepEqual(lines, []);
  discovery.set(addresses(23));
  discovery.set(addresses(23));
  t.is(lines.length, 1);
  t.like(JSON.parse(lines[0] ?? ''), { level: 40, agents: 23, limit: 300, needed: 302 });
  t.deepEqual(seen, [22, 23, 23]);
});
