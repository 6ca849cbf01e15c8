import { access, mkdtemp, readdir, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { run } from '../../scripts/command.ts';
import { startDriver } from '../helpers/driver.ts';

const root = join(import.meta.dirname, '..', '..', '..');
const analyze = '/usr/bin/systemd-analyze';

/** The files that `contrib/install` installs on a machine, below a scratch directory. */
let destination: string;

test.before(async () => {
  destination = await mkdtemp(join(tmpdir(), 'loopcsi-install-'));
  await run('sh', [join(root, 'contrib/install')], { env: { DESTDIR: destination } });
});
test.after.always(async () => {
  await rm(destination, { recursive: true, force: true });
});

test.serial('the installed driver serves', async (t) => {
  const library = join(destination, 'usr/local/lib/loopcsi');
  const driver = await startDriver(destination, ['--http-address=off'], {
    program: join(library, 'dist/bundle/main.js'),
  });
  const launcher = join(library, 'bin/loopcsi');
  t.regex(await run(launcher, ['pool', 'list', `--endpoint=unix://${driver.endpoint}`]), /default/);
  await driver.stop();
});

test.serial('a driver keeps working while another one is installed over it', async (t) => {
  const library = join(destination, 'usr/local/lib/loopcsi');
  const before = await realpath(library);
  const driver = await startDriver(destination, ['--http-address=off'], {
    program: join(library, 'dist/bundle/main.js'),
  });
  await run('sh', [join(root, 'contrib/install')], { env: { DESTDIR: destination } });
  t.not(await realpath(library), before);
  // The driver runs its first program now, with a library that is loaded on demand.
  const launcher = join(library, 'bin/loopcsi');
  const endpoint = `--endpoint=unix://${driver.endpoint}`;
  t.regex(
    await run(launcher, ['volume', 'create', 'late', '--size=16Mi', endpoint]),
    /was created/,
  );
  await run(launcher, ['volume', 'delete', 'late', '--yes', endpoint]);
  await driver.stop();
  await run('sh', [join(root, 'contrib/install')], { env: { DESTDIR: destination } });
  t.is((await readdir(`${library}-versions`)).length, 2, 'older ones are removed');
});

test.serial('systemd-analyze finds no error in the unit', async (t) => {
  const file = join(destination, 'etc/systemd/system/loopcsi.service');
  const unit = await readFile(file, 'utf8');
  t.regex(unit, /^Environment=PATH=\/.*\nExecStart=\/usr\/local\/bin\/loopcsi serve$/m);
  const isHere = await access(analyze).then(
    () => true,
    () => false,
  );
  if (!isHere) {
    t.log(`not verified: there is no ${analyze}`);
    return;
  }
  // The path it would have. A link below another directory cannot be absolute.
  const installed = join(destination, 'usr/local/lib/loopcsi/bin/loopcsi');
  await writeFile(file, unit.replaceAll('/usr/local/bin/loopcsi', installed));
  t.is(await run(analyze, ['verify', '--man=no', '--recursive-errors=no', file]), '');
});
