import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Client, makeClient } from '../src/csi/client.ts';
import { noLimits } from '../src/host/loop/io-limits.ts';
import { nodeTagOf, volumeIdFor } from '../src/ids.ts';
import { encodeJson } from '../src/state/decode.ts';
import type { VolumeRecord } from '../src/state/records.ts';
import { MiB } from '../src/units.ts';
import { startDriver } from '../test/helpers/driver.ts';
import { asMarkdown, elapsedMs, percentile, residentMiB } from './measure.ts';

const pageSize = 100;

/** Writes volume records with empty images; ListVolumes takes as long for them as for real volumes. */
async function writeVolumes(directory: string, count: number): Promise<void> {
  for (let i = 0; i < count; i += 1) {
    const name = `pvc-${String(i).padStart(6, '0')}`;
    const id = volumeIdFor(name, nodeTagOf('test-node'));
    const record: VolumeRecord = {
      schemaVersion: 1,
      id,
      name,
      kind: 'block',
      fsType: null,
      fsUuid: null,
      provisioning: 'thin',
      sectorSize: 4096,
      sizeBytes: MiB,
      trim: 'periodic',
      limits: noLimits,
      directIo: true,
      mkfsOptions: [],
      parameters: {},
      source: null,
      ephemeralTarget: null,
      mountOptions: [],
      createdAtMs: 1_700_000_000_000,
    };
    const entry = join(directory, 'pool', 'volumes', id);
    await mkdir(entry, { recursive: true });
    await writeFile(join(entry, 'volume.json'), encodeJson(record));
    await writeFile(join(entry, 'disk.img'), '');
  }
}

/** Measures the duration of each page while it lists all volumes three times. */
async function timePages(client: Client<'csi.v1.Controller'>): Promise<readonly number[]> {
  const times: number[] = [];
  for (let round = 0; round < 3; round += 1) {
    let starting_token = '';
    do {
      const startMs = performance.now();
      const page = await client.ListVolumes({ max_entries: pageSize, starting_token });
      times.push(performance.now() - startMs);
      starting_token = page.next_token;
    } while (starting_token !== '');
  }
  return times;
}

async function measureList(directory: string, count: number): Promise<readonly string[]> {
  await writeVolumes(directory, count);
  const startedAtMs = performance.now();
  const driver = await startDriver(directory, ['--log-level=warn']);
  const startMs = performance.now() - startedAtMs;
  const client = makeClient('csi.v1.Controller', `unix://${driver.endpoint}`);
  try {
    const pages = await timePages(client);
    let listed = 0;
    const completeMs = await elapsedMs(async () => {
      listed = (await client.ListVolumes({})).entries.length;
    });
    if (listed !== count) throw new Error(`the driver listed ${listed} of ${count} volumes`);
    return [
      String(count),
      percentile(pages, 50).toFixed(2),
      percentile(pages, 99).toFixed(2),
      completeMs.toFixed(0),
      startMs.toFixed(0),
      (await residentMiB(driver.pid)).toFixed(0),
    ];
  } finally {
    client.close();
    await driver.stop();
  }
}

/** Lists many volumes in pages and in one call, and measures how long the driver takes to start with them. */
export async function benchList(directory: string): Promise<string> {
  // The first start creates the pool.
  const first = await startDriver(directory, ['--log-level=warn']);
  await first.stop();
  const rows = [await measureList(directory, 1_000), await measureList(directory, 10_000)];
  return asMarkdown(
    [
      'volumes',
      `page of ${pageSize}, p50 ms`,
      'p99 ms',
      'all in one response, ms',
      'start, ms',
      'memory, MiB',
    ],
    rows,
  );
}
