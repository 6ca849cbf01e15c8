/**
 * Hundreds of volumes in random life cycles under load, for as long as asked.
 *
 *   npm run test:soak -- MINUTES [--seed N] [--write FILE]   --write also writes the report to FILE, as Markdown
 */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { unstage } from '../crash/calls.ts';
import {
  brokenInvariants,
  countContents,
  damagedImages,
  waitUntilIdle,
} from '../crash/invariants.ts';
import { brokenFacts, Load } from '../crash/load.ts';
import { makeRandom, seedOf } from '../crash/random.ts';
import { poolPathsOf } from '../crash/run-case.ts';
import { World } from '../crash/test-node.ts';
import { reportOf, type Sample } from './report.ts';

const workers = 32;
const namesPerWorker = 8;
const mebibyte = 2 ** 20;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { seed: { type: 'string' }, write: { type: 'string' } },
});
const minutes = Number(positionals[0] ?? 20);
const seed = seedOf(values.seed);

async function sampleOf(world: World, load: Load, startedAtMs: number): Promise<Sample> {
  const { pid } = world.driver;
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  const { volumes, snapshots, devices, mounts } = await countContents(poolPathsOf(world));
  return {
    minute: Math.round((Date.now() - startedAtMs) / 6_000) / 10,
    operations: load.done,
    verifiedMiB: Math.round(load.verifiedBytes / mebibyte),
    errors: load.unexplained.length,
    volumes,
    snapshots,
    devices,
    mounts,
    residentMiB: Math.round(Number(/^VmRSS:\s*(\d+) kB$/m.exec(status)?.[1]) / 1024),
    descriptors: (await readdir(`/proc/${pid}/fd`)).length,
  };
}

/** Deletes the present volumes and snapshots; to undo every call of a long run would take too long. */
async function deleteAll(world: World, load: Load): Promise<void> {
  for (const { name } of load.facts()) await unstage(world, name);
  const { entries: snapshots } = await world.controller.ListSnapshots({});
  for (const { snapshot } of snapshots) {
    await world.controller.DeleteSnapshot({ snapshot_id: snapshot?.snapshot_id ?? '' });
  }
  const { entries: volumes } = await world.controller.ListVolumes({});
  for (const { volume } of volumes) {
    await world.controller.DeleteVolume({ volume_id: volume?.volume_id ?? '' });
  }
}

async function main(): Promise<boolean> {
  const world = await World.make({ poolFs: 'xfs', isPlain: true });
  const load = new Load(world, makeRandom(seed), { namesPerWorker, repeats: 60_000 });
  const startedAtMs = Date.now();
  const samples = [await sampleOf(world, load, startedAtMs)];
  const take = async (): Promise<void> => {
    const sample = await sampleOf(world, load, startedAtMs);
    samples.push(sample);
    process.stdout.write(`${JSON.stringify(sample)}\n`);
  };
  const running = load.run(workers);
  const endAtMs = startedAtMs + minutes * 60_000;
  while (Date.now() < endAtMs) {
    await delay(Math.min(60_000, Math.max(0, endAtMs - Date.now())));
    await take();
  }
  load.stop();
  await running;
  const problems = [...load.unexplained];
  const { broken } = await brokenFacts(world, load.facts());
  problems.push(...broken);
  await deleteAll(world, load);
  await waitUntilIdle(poolPathsOf(world), 120_000);
  problems.push(...(await damagedImages(poolPathsOf(world))));
  problems.push(...(await brokenInvariants(poolPathsOf(world), 'empty')));
  await delay(5_000);
  await take();
  problems.push(...(await world.end()));
  const report = reportOf({ seed, workers, minutes, samples, problems });
  process.stdout.write(`${report}\n`);
  if (values.write !== undefined) await writeFile(values.write, report);
  return problems.length === 0;
}

process.exitCode = (await main()) ? 0 : 1;
