import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { mapConcurrently } from '../src/async.ts';
import { makeClient } from '../src/csi/client.ts';
import { MiB } from '../src/units.ts';
import { type DriverProcess, startDriver } from '../test/helpers/driver.ts';
import { httpFlag, metricsUrl, scrape } from '../test/helpers/scrape.ts';
import { until } from '../test/helpers/until.ts';
import { asMarkdown, percentile } from './measure.ts';

const rounds = 30;
const access_mode = { mode: 'SINGLE_NODE_WRITER' } as const;
const capability = {
  access_mode,
  access_type: 'mount',
  mount: { fs_type: 'ext4' },
} as const;

/** Creates and mounts the volumes from number `from` up to `to`. */
async function mountVolumes(
  driver: DriverProcess,
  directory: string,
  range: { readonly from: number; readonly to: number },
): Promise<void> {
  const controller = makeClient('csi.v1.Controller', `unix://${driver.endpoint}`);
  const node = makeClient('csi.v1.Node', `unix://${driver.endpoint}`);
  const numbers = Array.from({ length: range.to - range.from }, (_, i) => range.from + i);
  try {
    await mapConcurrently(numbers, 8, async (number) => {
      const name = `pvc-${String(number).padStart(6, '0')}`;
      const { volume } = await controller.CreateVolume({
        name,
        capacity_range: { required_bytes: 16n * MiB },
        volume_capabilities: [capability],
      });
      const staging_target_path = join(directory, `staging-${name}`);
      await mkdir(staging_target_path);
      const volume_id = volume?.volume_id ?? '';
      await node.NodeStageVolume({ volume_id, volume_capability: capability, staging_target_path });
    });
  } finally {
    controller.close();
    node.close();
  }
}

async function measureScrapes(url: string, volumes: number): Promise<readonly string[]> {
  // The first scrape starts the check of the health of all volumes, which runs in the background.
  await until('the health of all volumes was checked', async () =>
    (await scrape(url)).includes('\nloopcsi_health_check_timestamp_seconds '),
  );
  const times: number[] = [];
  let body = await scrape(url);
  const cpuBefore = cpuSecondsIn(body);
  for (let round = 0; round < rounds; round += 1) {
    const startMs = performance.now();
    body = await scrape(url);
    times.push(performance.now() - startMs);
    // Scrapes at once would find the sizes of all images in the cache.
    await delay(200);
  }
  const mounted = body.match(/^loopcsi_volume_filesystem_used_bytes\{/gm)?.length ?? 0;
  if (mounted !== volumes) throw new Error(`${mounted} of ${volumes} volumes have their usage`);
  return [
    String(volumes),
    String(body.match(/^[^#\n]/gm)?.length ?? 0),
    (body.length / 1024).toFixed(0),
    percentile(times, 50).toFixed(0),
    percentile(times, 99).toFixed(0),
    (((cpuSecondsIn(body) - cpuBefore) * 1000) / rounds).toFixed(0),
  ];
}

function cpuSecondsIn(body: string): number {
  return Number(/^process_cpu_seconds_total (.*)$/m.exec(body)?.[1]);
}

/** Scrapes the metrics of a driver with many mounted volumes. */
export async function benchMetrics(directory: string): Promise<string> {
  const driver = await startDriver(directory, [httpFlag]);
  try {
    const url = await metricsUrl(driver);
    const rows: (readonly string[])[] = [];
    let from = 0;
    for (const to of [10, 100, 1_000]) {
      await mountVolumes(driver, directory, { from, to });
      rows.push(await measureScrapes(url, to));
      from = to;
    }
    const head = ['mounted volumes', 'series', 'KiB', 'scrape, p50 ms', 'p99 ms', 'CPU, ms'];
    return asMarkdown(head, rows);
  } finally {
    await driver.stop();
  }
}
