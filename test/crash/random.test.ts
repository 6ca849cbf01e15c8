import { setTimeout as delay } from 'node:timers/promises';
import { onNode } from '../helpers/on-node.ts';
import { brokenInvariants, waitUntilIdle } from './invariants.ts';
import { Load } from './load.ts';
import { makeRandom, seedOf } from './random.ts';
import { RandomOtherSoftware } from './random-other-software.ts';
import { poolPathsOf, thawMs } from './run-case.ts';
import { TestNode } from './test-node.ts';

const isSample = process.env['LOOPCSI_CRASH'] !== 'whole';
const seed = seedOf(process.env['LOOPCSI_CRASH_SEED']);
const loadMs = isSample ? 20_000 : 150_000;
const startUps = isSample ? 4 : 60;
const workers = 8;

/** Waits until the driver has answered that many more calls. */
async function answered(load: Load, more: number): Promise<void> {
  const enough = load.done + more;
  for (const giveUpAt = Date.now() + 20_000; load.done < enough && Date.now() < giveUpAt; ) {
    await delay(10);
  }
}

for (const poolFs of ['directory', 'xfs'] as const) {
  onNode(`killed at random instants under load (${poolFs} pool)`, async (t) => {
    t.timeout(15 * 60_000);
    t.log(`seed ${seed}`);
    const random = makeRandom(seed);
    const testNode = await TestNode.make({ poolFs });
    const load = new Load(testNode, random, { withOtherSoftware: true });
    const otherSoftware = new RandomOtherSoftware(testNode, makeRandom(seed + 2));
    let kills = 0;
    try {
      for (const giveUpAt = Date.now() + loadMs; Date.now() < giveUpAt; kills += 1) {
        const running = load.run(workers);
        const others = otherSoftware.run();
        await delay(50 + random.below(1_500));
        // On a slow machine too, some calls must have been answered before the kill.
        await answered(load, 1 + random.below(10));
        const { driver } = testNode;
        const killed = driver.kill();
        load.stop();
        otherSoftware.stop();
        await killed;
        await others;
        await delay(thawMs);
        t.deepEqual(await brokenInvariants(poolPathsOf(testNode), 'killed'), [], 'after the kill');
        await running;
        await testNode.restart();
        await waitUntilIdle(poolPathsOf(testNode));
        t.deepEqual(await brokenInvariants(poolPathsOf(testNode), 'idle'), [], 'after the start');
        t.deepEqual(await load.brokenClaims(), [], 'what was acknowledged');
      }
      t.deepEqual(load.unexplained, []);
      const others = [...otherSoftware.done].map(([what, times]) => `${what} ${times}`).join(', ');
      t.log(`${kills} kills, ${load.done} calls answered; other software: ${others}`);
      await testNode.clear();
      await waitUntilIdle(poolPathsOf(testNode));
      t.deepEqual(await brokenInvariants(poolPathsOf(testNode), 'empty'), []);
    } catch (error) {
      t.log((await testNode.driver.log()).slice(-4_000));
      throw error;
    } finally {
      const left = await testNode.end();
      if (t.passed) t.deepEqual(left, []);
    }
  });

  onNode(`killed during starts that have work from an earlier kill (${poolFs} pool)`, async (t) => {
    t.timeout(15 * 60_000);
    t.log(`seed ${seed}`);
    const random = makeRandom(seed + 1);
    const testNode = await TestNode.make({ poolFs });
    const load = new Load(testNode, random);
    try {
      for (let round = 0; round < startUps; round += 1) {
        const running = load.run(workers);
        // On a slow machine too, a start must have work.
        await answered(load, 10);
        const killed = testNode.driver.kill();
        load.stop();
        await killed;
        await running;
        // A start takes about half a second, so these kills come before, during and after its work.
        for (let again = 0; again < 3; again += 1) {
          const started = await testNode.startWithoutWaiting();
          await delay(random.below(800));
          await started.kill();
        }
        await delay(thawMs);
        t.deepEqual(await brokenInvariants(poolPathsOf(testNode), 'killed'), [], 'after the kills');
        await testNode.restart();
        await waitUntilIdle(poolPathsOf(testNode));
        t.deepEqual(await brokenInvariants(poolPathsOf(testNode), 'idle'), [], 'after the start');
        t.deepEqual(await load.brokenClaims(), [], 'what was acknowledged');
      }
      t.deepEqual(load.unexplained, []);
      t.log(`${startUps * 3} kills, ${load.done} calls answered`);
      t.true(load.done > 0);
      await testNode.clear();
      await waitUntilIdle(poolPathsOf(testNode));
      t.deepEqual(await brokenInvariants(poolPathsOf(testNode), 'empty'), []);
    } finally {
      const left = await testNode.end();
      if (t.passed) t.deepEqual(left, []);
    }
  });
}
