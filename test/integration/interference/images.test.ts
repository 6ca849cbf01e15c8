/** Images that other software truncated. The driver refuses them and does not repair them. */
import { stat, truncate } from 'node:fs/promises';
import { MiB } from '../../../src/units.ts';
import { withFixture } from '../../helpers/node-fixture.ts';
import { onNode } from '../../helpers/on-node.ts';

const ok = { code: 'OK', message: '' };

for (const lost of ['half', 'one MiB'] as const) {
  onNode(`a block image that lost ${lost} is refused and not changed`, async (t) => {
    await withFixture(t, async (fixture) => {
      for (const answer of await fixture.use('v', 'block')) t.deepEqual(answer, ok);
      await fixture.writeMark('v', 'MARK');
      t.deepEqual(await fixture.unpublish('v'), ok);
      t.deepEqual(await fixture.unstage('v'), ok);
      const image = fixture.imageOf('v');
      const { size } = await stat(image);
      const left = lost === 'half' ? size / 2 : size - Number(MiB);
      await truncate(image, left);
      t.true((await fixture.healthOf('v')).length > 0, 'health');
      for (const restarts of [false, true]) {
        if (restarts) {
          await fixture.testNode.driver.kill();
          await fixture.testNode.start();
        }
        const answer = await fixture.stage('v', 'block');
        t.is(answer.code, 'FAILED_PRECONDITION', answer.message);
        t.is((await stat(image)).size, left, 'nothing is filled with zeros');
        t.deepEqual(await fixture.devicesOf('v'), []);
      }
      t.not(
        (await fixture.expand('v', 2n * BigInt(size))).code,
        'OK',
        'it would be filled with zeros',
      );
      t.is((await stat(image)).size, left);
      t.deepEqual(await fixture.delete('v'), ok);
    });
  });
}

onNode('a block image that was truncated after a growth is refused too', async (t) => {
  await withFixture(t, async (fixture) => {
    t.deepEqual(await fixture.create('v', 'block'), ok);
    t.deepEqual(await fixture.expand('v', 48n * MiB), ok);
    await truncate(fixture.imageOf('v'), Number(16n * MiB));
    const answer = await fixture.stage('v', 'block');
    t.is(answer.code, 'FAILED_PRECONDITION', answer.message);
    t.is((await stat(fixture.imageOf('v'))).size, Number(16n * MiB));
  });
});
