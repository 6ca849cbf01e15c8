/**
 * power-loss FILESYSTEM SEED work|rest: checks the pool that the last power cut left on the disk `FILESYSTEM`, empties it, and
 * with `work` runs a load on it until the power is cut. Prints TAP, and `working` once the load has completed some steps.
 */
import { mkdir } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { execa } from 'execa';
import { leftAfterDeletingAll, problemsAfterPowerLoss } from '../../crash/after-power-loss.ts';
import { checkers } from '../../crash/invariants.ts';
import { Load } from '../../crash/load.ts';
import { makeRandom } from '../../crash/random.ts';
import { poolOn, TestNode } from '../../crash/test-node.ts';
import type { PoolFilesystem } from '../power-cuts/recording.ts';
import { certainFacts, FactJournal } from '../power-loss/fact-journal.ts';
import { workingLine } from '../power-loss/working-line.ts';

const workers = 4;
/** After this number of steps a power cut can lose data. */
const firstSteps = 12;

const say = (line: string): void => void process.stdout.write(`${line}\n`);

/** Prints one test point. */
function reportPoint(name: string, broken: readonly string[]): void {
  say(`${broken.length === 0 ? 'ok' : 'not ok'} - ${name}`);
  for (const problem of broken) say(`#   ${problem.replaceAll('\n', '\n#   ')}`);
  if (broken.length > 0) process.exitCode = 1;
}

async function makeIfBlank(device: string, type: PoolFilesystem): Promise<void> {
  const { exitCode } = await execa('blkid', ['--probe', device], { reject: false });
  // Exit code 2: blkid recognises no content.
  if (exitCode === 2) await execa(`mkfs.${type}`, ['-q', device]);
}

/** The errors that the checker finds in the pool's filesystem, after a mount has replayed its log. */
async function brokenPool(device: string, type: PoolFilesystem): Promise<readonly string[]> {
  const target = '/run/replayed';
  await mkdir(target, { recursive: true });
  await execa('mount', [device, target]);
  await execa('umount', [target]);
  const { exitCode, stdout, stderr } = await checkers[type](device);
  if (exitCode === 0) return [];
  return [`its checker ended with ${String(exitCode)}: ${`${stdout}${stderr}`.slice(-800)}`];
}

async function work(testNode: TestNode, seed: number, journalPath: string): Promise<never> {
  const load = new Load(testNode, makeRandom(seed), {
    journal: await FactJournal.make(journalPath),
  });
  void load.run(workers);
  for (let isAnnounced = false; ; await delay(20)) {
    if (load.unexplained.length > 0) throw new Error(load.unexplained.join('\n'));
    if (isAnnounced || load.done < firstSteps) continue;
    isAnnounced = true;
    say(workingLine);
  }
}

async function main(type: PoolFilesystem, seed: number, isWork: boolean): Promise<void> {
  const device = `/dev/vm/${type}`;
  await makeIfBlank(device, type);
  await makeIfBlank('/dev/vm/journal', 'ext4');
  await mkdir('/run/journal');
  await execa('mount', ['/dev/vm/journal', '/run/journal']);
  const journalPath = `/run/journal/${type}`;
  const facts = await certainFacts(journalPath);
  reportPoint(`the ${type} of the pool is clean`, await brokenPool(device, type));
  const testNode = await TestNode.make({
    poolFs: type,
    isPlain: true,
    preparePool: poolOn(device),
  });
  const what = `${facts.length} volumes of a pool on ${type} are as they were acknowledged`;
  reportPoint(what, await problemsAfterPowerLoss(testNode, facts));
  reportPoint(`the pool on ${type} can be emptied`, await leftAfterDeletingAll(testNode));
  if (isWork) await work(testNode, seed, journalPath);
  reportPoint(`nothing is left mounted or attached on ${type}`, await testNode.end());
}

const [type = '', seed = '', what = ''] = process.argv.slice(2);
// The suite passes the name of one of its disks.
await main(type as PoolFilesystem, Number(seed), what === 'work');
