/**
 * The driver as it is shipped, except that it kills itself with SIGKILL at a fault point that a file names. It reads the file
 * at each fault point, so a test can arm a running driver.
 */
import { appendFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { environment, loadConfig } from '../../src/config/load.ts';
import { addServeOptions } from '../../src/config/options.ts';
import { serve } from '../../src/serve.ts';
import type { FaultPoint } from '../../src/volumes/engine/fault-points.ts';
import { fileDeviceLimits } from '../helpers/file-device-limits.ts';
import { armFile, controlVariable, traceFile } from './fault-moments.ts';

process.umask(0o077);
const directory = process.env[controlVariable] ?? '';
let round = '';
const counts = new Map<FaultPoint, number>();

function reached(point: FaultPoint): void {
  const [armed = '', wanted, nth] = readArm().split(' ');
  if (armed !== round) counts.clear();
  round = armed;
  const count = (counts.get(point) ?? 0) + 1;
  counts.set(point, count);
  appendFileSync(join(directory, traceFile), `${round} ${point}\n`);
  if (wanted === point && Number(nth) === count) process.kill(process.pid, 'SIGKILL');
}

function readArm(): string {
  try {
    return readFileSync(join(directory, armFile), 'utf8').trim();
  } catch {
    return '';
  }
}

const command = addServeOptions(new Command('serve')).parse(process.argv.slice(3), {
  from: 'user',
});
const config = await loadConfig(command.opts(), environment());
const running = await serve(config, {
  reached,
  // A file: the fault points of limits must also be tested on machines with cgroup v1.
  ...(config.podsCgroup === undefined ? {} : { deviceLimits: fileDeviceLimits(config.podsCgroup) }),
});
process.once('SIGTERM', () => {
  void running.stop().then(() => process.exit(0));
});
