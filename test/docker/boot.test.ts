import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { eventually } from '../../scripts/command.ts';
import { dockerCall } from '../helpers/docker-client.ts';
import { type Lab, openLab } from './lab.ts';
import { type Machine, makeMachine } from './machine.ts';

const project = join(import.meta.dirname, '..', '..', '..');

let lab: Lab;
let machine: Machine;

test.before(async () => {
  lab = await openLab();
  machine = await makeMachine(lab);
});
test.after.always('nothing is left over', async () => {
  const left = await lab.close();
  if (left.length > 0) throw new Error(`left over: ${left.join('; ')}`);
});

/** What dockerd would ask. */
const ask = (call: string, body: Readonly<Record<string, unknown>>) =>
  dockerCall(machine.seen('/run/docker/plugins/loopcsi.sock'), call, body);

const show = (property: string, unit = 'loopcsi.service'): Promise<string> =>
  machine.run('systemctl', 'show', '--value', `--property=${property}`, unit);

async function mountpoint(id: string): Promise<string> {
  const { Mountpoint: path } = await ask('Mount', { Name: 'data', ID: id });
  return machine.seen(join(String(path), 'file'));
}

test.serial('one command installs a service that serves, is restarted and boots', async (t) => {
  await machine.boot();
  await writeFile(machine.seen('/etc/default/loopcsi'), 'LOOPCSI_HTTP_ADDRESS=off\n');
  await machine.run('sh', join(project, 'contrib/install'));
  t.is(await show('ActiveState'), 'active');
  t.true((await show('After', 'docker.service')).split(' ').includes('loopcsi.service'));

  await ask('Create', { Name: 'data', Opts: { size: '64Mi' } });
  const file = await mountpoint('one');
  await writeFile(file, 'kept', { flush: true });
  await machine.run('systemctl', 'restart', 'loopcsi');
  t.is(await readFile(file, 'utf8'), 'kept', 'volumes stay mounted without the driver');

  await machine.run('systemctl', 'kill', '--signal=KILL', '--kill-who=main', 'loopcsi');
  await eventually('systemd to start it again', async () =>
    (await show('NRestarts')) === '1' && (await show('ActiveState')) === 'active'
      ? true
      : undefined,
  );
  t.is(await readFile(file, 'utf8'), 'kept');
  t.like(await ask('Get', { Name: 'data' }), { Volume: { Name: 'data' } });

  await machine.halt();
  await machine.boot();
  t.is(await show('ActiveState'), 'active', 'it came with the boot');
  t.is(await readFile(await mountpoint('two'), 'utf8'), 'kept', 'so did its volumes');

  // As docs/docker.md removes it: volumes stay.
  await machine.run('systemctl', 'disable', '--now', 'loopcsi');
  t.is(await show('UnitFileState'), 'disabled');
  await machine.run('sh', join(project, 'contrib/install'));
  await ask('Unmount', { Name: 'data', ID: 'two' });
  await ask('Remove', { Name: 'data' });
  t.deepEqual(await machine.devices(), []);
  await machine.halt();
});
