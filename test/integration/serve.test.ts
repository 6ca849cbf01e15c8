import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { lstat, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { ExecutionContext } from 'ava';
import { makeClient } from '../../src/csi/client.ts';
import { codeOf } from '../helpers/csi-server.ts';
import { portOf, startDriver } from '../helpers/driver.ts';
import { onNode } from '../helpers/on-node.ts';
import { onScratch } from '../helpers/root-scratch.ts';
import { until } from '../helpers/until.ts';

const root = join(import.meta.dirname, '..', '..', '..');
const launcher = join(root, 'bin', 'loopcsi');

interface Ended {
  readonly code: number;
  readonly output: string;
}

/** Runs the launcher to its end. */
async function run(args: readonly string[]): Promise<Ended> {
  return new Promise((resolve) => {
    execFile(launcher, args, { timeout: 30_000 }, (error, stdout, stderr) => {
      const code = typeof error?.code === 'number' ? error.code : error === null ? 0 : -1;
      resolve({ code, output: stdout + stderr });
    });
  });
}

const inScratch =
  (work: (t: ExecutionContext, directory: string) => Promise<void>) =>
  async (t: ExecutionContext) =>
    onScratch(t, async ({ directory }) => work(t, directory));

onNode(
  'SIGTERM ends the driver with exit code 0 and removes the socket; the socket and directories are private',
  inScratch(async (t, directory) => {
    const driver = await startDriver(directory, ['--http-address=off']);
    t.is((await lstat(driver.endpoint)).mode & 0o777, 0o600);
    for (const made of ['pool', 'state']) {
      t.is((await stat(join(directory, made))).mode & 0o777, 0o700, made);
    }
    await driver.stop();
    await t.throwsAsync(lstat(driver.endpoint), { code: 'ENOENT' });
    t.regex(await driver.log(), /"msg":"stopped"/);
  }),
);

onNode(
  'after SIGKILL, the next start replaces the socket and works',
  inScratch(async (t, directory) => {
    const first = await startDriver(directory, ['--http-address=off']);
    const volume = makeClient('csi.v1.Controller', `unix://${first.endpoint}`);
    const capability = {
      access_mode: { mode: 'SINGLE_NODE_WRITER' },
      access_type: 'block',
      block: {},
    } as const;
    const request = {
      name: 'a',
      volume_capabilities: [capability],
      capacity_range: { required_bytes: 1n << 20n },
    };
    const made = await volume.CreateVolume(request);
    volume.close();
    await first.kill();
    t.true((await lstat(first.endpoint)).isSocket());
    const second = await startDriver(directory, ['--http-address=off']);
    const again = makeClient('csi.v1.Controller', `unix://${second.endpoint}`);
    t.deepEqual(await again.CreateVolume(request), made);
    await again.DeleteVolume({ volume_id: made.volume?.volume_id });
    again.close();
    await second.stop();
  }),
);

onNode(
  'SIGTERM ends the driver while a thread waits in the kernel forever',
  inScratch(async (t, directory) => {
    const driver = await startDriver(directory, ['--http-address=off']);
    // Opening a FIFO without a writer waits like a file on a hung disk. The driver reads this file repeatedly.
    const marker = join(directory, 'pool', 'pool.json');
    await rm(marker);
    await promisify(execFile)('mkfifo', [marker]);
    await until('a thread waits', async () =>
      (await waitsOf(driver.pid)).includes('wait_for_partner'),
    );
    await driver.stop();
    t.is(await driver.ended, '0');
    t.regex(await driver.log(), /"msg":"stopped"/);
  }),
);

/** The kernel functions that the threads of a process wait in. */
async function waitsOf(pid: number): Promise<readonly string[]> {
  const threads = await readdir(`/proc/${pid}/task`);
  return Promise.all(
    threads.map((thread) => readFile(`/proc/${pid}/task/${thread}/wchan`, 'utf8')),
  );
}

onNode(
  'a second driver is refused on the same socket; with the same pool it reports the pool as not served',
  inScratch(async (t, directory) => {
    const driver = await startDriver(directory, ['--http-address=off']);
    const pool = `--pool=default=${join(directory, 'pool')}`;
    const same = await run([
      'serve',
      `--endpoint=unix://${driver.endpoint}`,
      pool,
      `--state-dir=${join(directory, 'other')}`,
    ]);
    t.is(same.code, 1);
    t.regex(same.output, /another process answers on .*csi\.sock; stop it/);
    t.is(await codeOf(probe(driver.endpoint)), 'OK');

    const other = join(directory, 'other.sock');
    const abort = new AbortController();
    const child = execFile(
      launcher,
      [
        'serve',
        `--endpoint=unix://${other}`,
        '--node-id=test-node',
        pool,
        `--state-dir=${join(directory, 'other')}`,
        '--http-address=off',
      ],
      { signal: abort.signal },
      () => undefined,
    );
    t.teardown(() => {
      abort.abort();
    });
    await until(
      'the other driver has its socket',
      async () => (await lstat(other).catch(() => undefined)) !== undefined,
      30_000,
    );
    const refused = await t.throwsAsync(probe(other));
    t.regex(
      refused?.message ?? '',
      /FAILED_PRECONDITION: pool 'default': .* is served by another loopcsi process/,
    );
    child.kill('SIGTERM');
    await once(child, 'exit');
    await driver.stop();
  }),
);

onNode(
  'a wrong option ends the driver with exit code 2 and an error that names it',
  inScratch(async (t, directory) => {
    const config = join(directory, 'config.yaml');
    await writeFile(config, 'logLevl: debug\n');
    const cases: readonly (readonly [args: readonly string[], says: RegExp])[] = [
      [['serve', '--endpont=x'], /unknown option '--endpont=x'/],
      [['serve', '--default-size=big'], /flag --default-size: 'big' is not a size/],
      [['serve', `--config=${config}`], /key logLevl in .*config\.yaml is not known/],
    ];
    for (const [args, says] of cases) {
      const { code, output } = await run(args);
      t.is(code, 2, output);
      t.regex(output, says);
    }
    const help = await run(['serve', '--help']);
    t.is(help.code, 0);
    t.regex(help.output, /LOOPCSI_DRIVER_NAME; default loopcsi\.io/);
  }),
);

onNode(
  'npm start: a signal to npm ends the driver, and a repeated signal has no further effect',
  inScratch(async (t, directory) => {
    const endpoint = join(directory, 'csi.sock');
    const npm = spawn('npm', ['start'], {
      cwd: root,
      stdio: ['ignore', 'pipe', 'ignore'],
      env: {
        ...process.env,
        LOOPCSI_ENDPOINT: `unix://${endpoint}`,
        LOOPCSI_POOL: `default=${join(directory, 'pool')},create`,
        LOOPCSI_STATE_DIR: join(directory, 'state'),
        LOOPCSI_MOUNT_DIR: join(directory, 'own'),
        LOOPCSI_HTTP_ADDRESS: 'off',
      },
    });
    let output = '';
    npm.stdout.on('data', (text: Buffer) => {
      output += text.toString();
    });
    await until('the driver serves', () => output.includes('"msg":"serving"'));
    // As at a terminal, which signals the whole process group, while npm passes the signal on to the driver.
    npm.kill('SIGINT');
    npm.kill('SIGINT');
    await until('the driver has stopped', () => output.includes('"msg":"stopped"'));
    await until('npm has ended', () => npm.exitCode !== null || npm.signalCode !== null);
    await t.throwsAsync(stat(endpoint), { code: 'ENOENT' });
  }),
);

onNode(
  'metrics count calls; a configured address that is in use makes the start fail',
  inScratch(async (t, directory) => {
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    t.teardown(() => taken.close());
    const address = taken.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const refused = await run([
      'serve',
      `--endpoint=unix://${join(directory, 'x.sock')}`,
      `--pool=default=${join(directory, 'x')},create`,
      `--state-dir=${join(directory, 'state-x')}`,
      `--http-address=127.0.0.1:${port}`,
    ]);
    t.is(refused.code, 1);
    t.regex(refused.output, /--http-address: .*EADDRINUSE/);
    await rm(join(directory, 'x'), { recursive: true });

    const driver = await startDriver(directory, ['--http-address=127.0.0.1:0']);
    const httpPort = await portOf(driver, 'httpPort');
    const read = async (path: string): Promise<string> =>
      (await fetch(`http://127.0.0.1:${httpPort}${path}`)).text();
    t.is(await read('/healthz'), 'ok\n');
    t.is(await read('/readyz'), 'ok\n');
    const controller = makeClient('csi.v1.Controller', `unix://${driver.endpoint}`);
    t.teardown(() => controller.close());
    await controller.CreateVolume({
      name: 'seen',
      capacity_range: { required_bytes: 16n * 1024n ** 2n, limit_bytes: 0n },
      volume_capabilities: [
        {
          access_type: 'mount',
          mount: { fs_type: '', mount_flags: [], volume_mount_group: '' },
          access_mode: { mode: 'SINGLE_NODE_WRITER' },
        },
      ],
    });
    const metrics = await read('/metrics');
    t.regex(
      metrics,
      /loopcsi_calls_total\{service="csi\.v1\.Identity",rpc="Probe",code="OK"\} [1-9]/,
    );
    t.regex(metrics, /loopcsi_pool_bytes\{pool="default",kind="room"\} [1-9]/);
    const image = 'loopcsi_volume_bytes\\{pool="default",volume="seen\\.[0-9a-f]{8}",kind=';
    t.regex(metrics, new RegExp(`${image}"size"\\} ${16 * 1024 ** 2}`));
    t.regex(metrics, new RegExp(`${image}"allocated"\\} [1-9]`));
    await driver.stop();
  }),
);

async function probe(endpoint: string): Promise<unknown> {
  const client = makeClient('csi.v1.Identity', `unix://${endpoint}`);
  try {
    return await client.Probe({}, { timeoutMs: 10_000 });
  } finally {
    client.close();
  }
}
