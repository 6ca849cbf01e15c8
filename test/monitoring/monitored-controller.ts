import { mkdir, mkdtemp, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { execa } from 'execa';
import { type Client, makeClient } from '../../src/csi/client.ts';
import { startService } from '../docker/processes.ts';
import { launcher } from '../helpers/command-line.ts';
import { type DriverProcess, portOf, startDriver } from '../helpers/driver.ts';
import { scrape } from '../helpers/scrape.ts';
import { removeAll } from '../helpers/scratch-pool.ts';
import { until } from '../helpers/until.ts';

/** That of the target of the driver's metrics in the other tests. */
const nodeId = 'worker-1';

/** A controller whose metrics are scraped, and the driver of one node. */
export class MonitoredController {
  readonly #t: ExecutionContext;
  readonly #directory: string;
  #driver: DriverProcess | undefined;
  #client: Client<'csi.v1.Controller'> | undefined;
  #url = '';
  #address = '';

  private constructor(t: ExecutionContext, directory: string) {
    this.#t = t;
    this.#directory = directory;
  }

  /** The test's teardown ends it. */
  static async start(t: ExecutionContext): Promise<MonitoredController> {
    const directory = await mkdtemp(join(tmpdir(), 'loopcsi-alerts-'));
    t.teardown(() => removeAll(directory));
    const started = new MonitoredController(t, directory);
    const tls = join(directory, 'tls');
    await execa(launcher, ['tls', 'create', tls]);
    const own = join(directory, 'node');
    await mkdir(own);
    const driver = await startDriver(own, [
      `--node-id=${nodeId}`,
      '--http-address=off',
      '--agent-address=127.0.0.1:0',
      `--tls-dir=${join(tls, 'agent')}`,
    ]);
    t.teardown(() => driver.stop());
    started.#driver = driver;
    started.#address = `127.0.0.1:${await portOf(driver, 'agentPort')}`;
    started.#url = await started.#startController('controller', tls);
    started.#client = makeClient(
      'csi.v1.Controller',
      `unix://${join(directory, 'controller.sock')}`,
    );
    t.teardown(() => started.#client?.close());
    return started;
  }

  /** Starts a controller with the certificates of that directory, and returns the address of its metrics. */
  async #startController(name: string, tls: string): Promise<string> {
    const logFile = join(this.#directory, `${name}.log`);
    const controller = await startService(
      [
        launcher,
        'controller',
        `--endpoint=unix://${join(this.#directory, `${name}.sock`)}`,
        `--agents=static:${this.#address}`,
        `--tls-dir=${join(tls, 'controller')}`,
        '--http-address=127.0.0.1:0',
      ],
      logFile,
    );
    this.#t.teardown(() => controller.end());
    const log = () => readFile(logFile, 'utf8');
    return `http://127.0.0.1:${await portOf({ log }, 'httpPort')}/metrics`;
  }

  /** The address of /metrics. */
  get url(): string {
    return this.#url;
  }

  /** A call that succeeds. */
  async call(): Promise<void> {
    await until('a call succeeds', async () =>
      (this.#client?.GetCapacity({}) ?? Promise.reject(new Error('not started'))).then(
        () => true,
        () => false,
      ),
    );
  }

  /** A call that the driver does not answer in time, because it is stopped. */
  async failCall(): Promise<void> {
    await this.call();
    const pid = this.#driver?.pid ?? 0;
    process.kill(pid, 'SIGSTOP');
    try {
      await this.#client?.ListVolumes({}, { timeoutMs: 3_000 }).catch(() => undefined);
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    await this.call();
  }

  async stopDriver(): Promise<void> {
    await this.#driver?.stop();
  }

  scrape(): Promise<string> {
    return scrape(this.#url);
  }

  async scrapeUntil(pattern: RegExp, url = this.#url): Promise<string> {
    let text = '';
    await until(`${pattern.source} is scraped`, async () => {
      text = await scrape(url);
      return pattern.test(text);
    });
    return text;
  }

  /** What a controller shows that trusts another authority than the driver's. */
  async scrapeWithForeignAuthority(): Promise<string> {
    const driver = await startDriver(join(this.#directory, 'node'), [
      `--node-id=${nodeId}`,
      '--http-address=off',
      `--agent-address=${this.#address}`,
      `--tls-dir=${join(this.#directory, 'tls', 'agent')}`,
    ]);
    this.#t.teardown(() => driver.stop());
    const foreign = join(this.#directory, 'foreign');
    await execa(launcher, ['tls', 'create', foreign]);
    const url = await this.#startController('foreign', foreign);
    return this.scrapeUntil(/^loopcsi_agents\{state="refused"\} 1$/m, url);
  }
}
