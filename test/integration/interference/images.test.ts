/** Images that other software truncated. The driver refuses them and does not repair them. */
import { stat, truncate } from 'node:fs/promises';
import { MiB } from '../../../src/units.ts';
import { onScene } from '../../helpers/node-fixture.ts';
import { onNode } from '../../helpers/on-node.ts';

const ok = { code: 'OK', message: '' };

for (const lost of ['half', 'one MiB'] as const) {
  onNode(`a block image that lost ${lost} is refused and not changed`, async (t) => {
    await onScene(t, async (scene) => {
      for (const answer of await scene.use('v', 'block')) t.deepEqual(answer, ok);
      await scene.writeMark('v', 'MARK');
      t.deepEqual(await scene.unpublish('v'), ok);
      t.deepEqual(await scene.unstage('v'), ok);
      const image = scene.imageOf('v');
      const { size } = await stat(image);
      const left = lost === 'half' ? size / 2 : size - Number(MiB);
      await truncate(image, left);
      t.true((await scene.healthOf('v')).length > 0, 'health');
      for (const restarts of [false, true]) {
        if (restarts) {
          await scene.world.driver.kill();
          await scene.world.start();
        }
        const answer = await scene.stage('v', 'block');
        t.is(answer.code, 'FAILED_PRECONDITION', answer.message);
        t.is((await stat(image)).size, left, 'nothing is filled with zeros');
        t.deepEqual(await scene.devicesOf('v'), []);
      }
      t.not(
        (await scene.expand('v', 2n * BigInt(size))).code,
        'OK',
        'it would be filled with zeros',
      );
      t.is((await stat(image)).size, left);
      t.deepEqual(await scene.delete('v'), ok);
    });
  });
}

onNode('a block image that was truncated after a growth is refused too', async (t) => {
  await onScene(t, async (scene) => {
    t.deepEqual(await scene.create('v', 'block'), ok);
    t.deepEqual(await scene.expand('v', 48n * MiB), ok);
    await truncate(scene.imageOf('v'), Number(16n * MiB));
    const answer = await scene.stage('v', 'block');
    t.is(answer.code, 'FAILED_PRECONDITION', answer.message);
    t.is((await stat(scene.imageOf('v'))).size, Number(16n * MiB));
  });
});
