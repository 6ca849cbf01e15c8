/**
 * Hundreds of volumes in random life cycles under load, for the given time.
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
import { TestNode } from '../crash/test-node.ts';
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

async function sampleOf(testNode: TestNode, load: Load, startedAtMs: number): Promise<Sample> {
  const { pid } = testNode.driver;
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  const { volumes, snapshots, devices, mounts } = await countContents(poolPathsOf(testNode));
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

/** Deletes the present volumes and snapshots. Undoing every call of a long run would take too long. */
async function deleteAll(testNode: TestNode, load: Load): Promise<void> {
  for (const { name } of load.facts()) await unstage(testNode, name);
  const { entries: snapshots } = await testNode.controller.ListSnapshots({});
  for (const { snapshot } of snapshots) {
    await testNode.controller.DeleteSnapshot({ snapshot_id: snapshot?.snapshot_id ?? '' });
  }
  const { entries: volumes } = await testNode.controller.ListVolumes({});
  for (const { volume } of volumes) {
    await testNode.controller.DeleteVolume({ volume_id: volume?.volume_id ?? '' });
  }
}

async function main(): Promise<boolean> {
  const testNode = await TestNode.make({ poolFs: 'xfs', isPlain: true });
  const load = new Load(testNode, makeRandom(seed), { namesPerWorker, repeats: 60_000 });
  const startedAtMs = Date.now();
  const samples = [await sampleOf(testNode, load, startedAtMs)];
  const take = async (): Promise<void> => {
    const sample = await sampleOf(testNode, load, startedAtMs);
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
  const { broken } = await brokenFacts(testNode, load.facts());
  problems.push(...broken);
  await deleteAll(testNode, load);
  await waitUntilIdle(poolPathsOf(testNode), 120_000);
  problems.push(...(await damagedImages(poolPathsOf(testNode))));
  problems.push(...(await brokenInvariants(poolPathsOf(testNode), 'empty')));
  await delay(5_000);
  await take();
  problems.push(...(await testNode.end()));
  const report = reportOf({ seed, workers, minutes, samples, problems });
  process.stdout.write(`${report}\n`);
  if (values.write !== undefined) await writeFile(values.write, report);
  return problems.length === 0;
}

process.exitCode = (await main()) ? 0 : 1;
