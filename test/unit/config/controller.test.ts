import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { controllerTable, loadControllerConfig } from '../../../src/config/controller.ts';
import { ConfigError } from '../../../src/config/load.ts';
import { optionsAsMarkdown } from '../../../src/config/options.ts';

const root = join(import.meta.dirname, '..', '..', '..', '..');
const required = { agents: 'static:127.0.0.1:9737', tlsDir: '/etc/loopcsi/tls' };

test('the defaults of a controller', async (t) => {
  const config = await loadControllerConfig(required, {});
  t.is(config.endpoint, '/run/loopcsi-controller/csi.sock');
  t.is(config.agents, 'static:127.0.0.1:9737');
  t.is(config.driverName, 'loopcsi.io');
  t.is(config.manageCertificates, undefined);
  t.deepEqual(config.httpAddress, { host: '127.0.0.1', port: 9738 });
});

test('options come from the environment, too, and missing ones are named together', async (t) => {
  const { agents } = await loadControllerConfig(
    { tlsDir: '/tls' },
    { LOOPCSI_AGENTS: 'dns://agents' },
  );
  t.is(agents, 'dns://agents');
  const error = await t.throwsAsync(loadControllerConfig({}, {}), { instanceOf: ConfigError });
  t.deepEqual(error.problems, ['flag --agents: is required', 'flag --tls-dir: is required']);
});

test('docs/controller.md has the table of the options', async (t) => {
  const docs = await readFile(join(root, 'docs', 'controller.md'), 'utf8');
  const table = optionsAsMarkdown(controllerTable);
  t.true(docs.includes(table), `put this into the file:\n\n${table}`);
});
