import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeClient } from '../src/csi/client.ts';
import { encodeJson } from '../src/state/decode.ts';
import type { VolumeRecord } from '../src/state/records.ts';
import { MiB } from '../src/units.ts';
import { nodeTagOf, volumeIdFor } from '../src/volumes/ids.ts';
import { startDriver } from '../test/helpers/driver.ts';
import { asMarkdown, percentile, residentMiB } from './measure.ts';

const pageSize = 100;

/** Volumes as records with empty images: what a list has to do with them is the same. */
async function fill(directory: string, count: number): Promise<void> {
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
      directIo: true,
      mkfsOptions: [],
      parameters: {},
      source: null,
      ephemeralTarget: null,
      mountOptions: [],
      createdAtMs: 1_700_000_000_000,
    };
    const place = join(directory, 'pool', 'volumes', id);
    await mkdir(place, { recursive: true });
    await writeFile(join(place, 'volume.json'), encodeJson(record));
    await writeFile(join(place, 'disk.img'), '');
  }
}

/** ListVolumes page by page with many volumes, and how long a start takes with them. */
export async function benchList(directory: string): Promise<string> {
  const rows: string[][] = [];
  const first = await startDriver(directory, ['--log-level=warn']);
  await first.stop();
  for (const count of [1_000, 10_000]) {
    await fill(directory, count);
    const from = performance.now();
    const driver = await startDriver(directory, ['--log-level=warn']);
    const startMs = performance.now() - from;
    const client = makeClient('csi.v1.Controller', `unix://${driver.endpoint}`);
    try {
      const times: number[] = [];
      for (let round = 0; round < 3; round += 1) {
        let starting_token = '';
        do {
          const before = performance.now();
          const page = await client.ListVolumes({ max_entries: pageSize, starting_token });
          times.push(performance.now() - before);
          starting_token = page.next_token;
        } while (starting_token !== '');
      }
      const before = performance.now();
      const all = await client.ListVolumes({});
      const wholeMs = performance.now() - before;
      if (all.entries.length !== count) throw new Error(`${all.entries.length} of ${count}`);
      rows.push([
        String(count),
        percentile(times, 50).toFixed(2),
        percentile(times, 99).toFixed(2),
        wholeMs.toFixed(0),
        startMs.toFixed(0),
        (await residentMiB(driver.pid)).toFixed(0),
      ]);
    } finally {
      client.close();
      await driver.stop();
    }
  }
  return asMarkdown(
    [
      'volumes',
      'page of 100, p50 ms',
      'p99 ms',
      'all in one answer, ms',
      'start, ms',
      'memory, MiB',
    ],
    rows,
  );
}
