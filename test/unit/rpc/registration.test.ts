import { watch } from 'node:fs';
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { pino } from 'pino';
import { makeClient } from '../../../src/csi/client.ts';
import { serveRegistration } from '../../../src/rpc/registration.ts';

const log = pino({ level: 'silent' });
const driverName = 'test.loopcsi.io';
const endpoint = '/var/lib/kubelet/plugins/test.loopcsi.io/csi.sock';

async function scratch(t: { teardown(undo: () => Promise<void>): void }): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-registration-'));
  t.teardown(async () => rm(directory, { recursive: true }));
  return directory;
}

/** A client in the role of the kubelet. */
function kubelet(t: { teardown(undo: () => void): void }, socket: string) {
  const client = makeClient('pluginregistration.Registration', `unix://${socket}`);
  t.teardown(client.close);
  return client;
}

test('the kubelet finds one socket, which returns driver name, CSI socket and version', async (t) => {
  const directory = await scratch(t);
  const registration = await serveRegistration({ directory, driverName, endpoint, log });
  t.teardown(() => {
    registration.close();
  });

  t.deepEqual(await readdir(directory), [`${driverName}-reg.sock`]);
  t.deepEqual(await kubelet(t, join(directory, `${driverName}-reg.sock`)).GetInfo({}), {
    type: 'CSIPlugin',
    name: driverName,
    endpoint,
    supported_versions: ['1.0.0'],
  });
});

test('the socket file outlives the driver, and the next driver replaces it without a removal', async (t) => {
  const directory = await scratch(t);
  const socket = join(directory, `${driverName}-reg.sock`);
  const first = await serveRegistration({ directory, driverName, endpoint, log });
  first.close();
  const before = await stat(socket);
  t.true(before.isSocket());

  const absences: string[] = [];
  const watcher = watch(directory, (_event, name) => {
    if (name === `${driverName}-reg.sock`) {
      stat(socket).catch(() => absences.push('the socket was missing'));
    }
  });
  t.teardown(() => {
    watcher.close();
  });
  const second = await serveRegistration({ directory, driverName, endpoint: '/new.sock', log });
  t.teardown(() => {
    second.close();
  });

  t.not((await stat(socket)).ino, before.ino);
  t.like(await kubelet(t, socket).GetInfo({}), { endpoint: '/new.sock' });
  t.deepEqual(absences, []);
});

test('the socket appears again after a refusal, not after an acceptance', async (t) => {
  const directory = await scratch(t);
  const socket = join(directory, `${driverName}-reg.sock`);
  const options = { directory, driverName, endpoint, log, retryMs: 5 };
  const registration = await serveRegistration(options);
  t.teardown(() => {
    registration.close();
  });

  const changes: string[] = [];
  const shownAgain = new Promise<void>((resolve) => {
    // Removed and created again: the kubelet reacts to the second event.
    const watcher = watch(directory, (event, name) => {
      if (event !== 'rename' || name !== `${driverName}-reg.sock`) return;
      changes.push(name);
      if (changes.length === 2) resolve();
    });
    t.teardown(() => {
      watcher.close();
    });
  });
  const accepted = { plugin_registered: true, error: '' };
  await kubelet(t, socket).NotifyRegistrationStatus(accepted);
  t.deepEqual(changes, []);

  const refused = { plugin_registered: false, error: 'the driver did not answer' };
  await kubelet(t, socket).NotifyRegistrationStatus(refused);
  await shownAgain;
  t.like(await kubelet(t, socket).GetInfo({}), { name: driverName });
});

test('a missing directory is refused, and the error names the remedy', async (t) => {
  const directory = join(await scratch(t), 'plugins_registry');
  await t.throwsAsync(serveRegistration({ directory, driverName, endpoint, log }), {
    message: /--registration-dir: .*plugins_registry is not a directory/,
  });
});

test('the hidden socket of a killed driver is replaced', async (t) => {
  const directory = await scratch(t);
  const leftover = createServer();
  await new Promise<void>((resolve) => {
    leftover.listen(join(directory, `.${driverName}-reg.sock`), resolve);
  });
  t.teardown(() => {
    leftover.close();
  });
  const registration = await serveRegistration({ directory, driverName, endpoint, log });
  t.teardown(() => {
    registration.close();
  });
  t.deepEqual(await readdir(directory), [`${driverName}-reg.sock`]);
});
