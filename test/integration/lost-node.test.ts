import * as v from 'valibot';
import { nodeRow } from '../../src/cli/node-format.ts';
import { nodeTagOf } from '../../src/ids.ts';
import { topologyOfNode } from '../../src/rpc/topology.ts';
import { MiB } from '../../src/units.ts';
import { runCommand } from '../helpers/command-line.ts';
import { codeOf } from '../helpers/csi-server.ts';
import { clientAt, inLab, untilAllReady } from '../helpers/lab.ts';
import { onNode } from '../helpers/on-node.ts';
import { until } from '../helpers/until.ts';

onNode(
  'a node is killed and forgotten, its volumes are deletable at every controller, it returns refused and is remembered with its data, over restarts by SIGKILL',
  inLab({ nodeCount: 2, controllerCount: 2 }, async (t, { nodes: [kept, lost], controllers }) => {
    const [one, two] = controllers;
    if (kept === undefined || lost === undefined || one === undefined || two === undefined)
      throw new Error('no lab');
    const [first, second] = [one, two].map(({ endpoint }) =>
      clientAt(t, 'csi.v1.Controller', endpoint),
    );
    if (first === undefined || second === undefined) throw new Error('no controller');
    const node = (...args: readonly string[]) => runCommand(one.endpoint, 'node', ...args);
    const stateOf = async (endpoint: string): Promise<string | undefined> => {
      const { stdout } = await runCommand(endpoint, 'node', 'list', '--json');
      const rows = v.parse(v.array(nodeRow), JSON.parse(stdout));
      return rows.find(({ name }) => name === lost.id)?.state;
    };
    await untilAllReady(first);
    await untilAllReady(second);
    const { key, value } = topologyOfNode('loopcsi.io', lost.id);
    const topology = { segments: { [key]: value } };
    const { volume } = await first.CreateVolume({
      name: 'data',
      capacity_range: { required_bytes: 16n * MiB },
      volume_capabilities: [
        { access_mode: { mode: 'SINGLE_NODE_WRITER' }, access_type: 'block', block: {} },
      ],
      accessibility_requirements: { requisite: [topology], preferred: [topology] },
    });
    const volume_id = volume?.volume_id ?? '';
    t.is(volume_id, `data.${nodeTagOf(lost.id)}`);

    const ready = await node('forget', lost.id, '--yes');
    t.is(ready.exitCode, 1);
    t.regex(ready.stderr, /is ready, and its volumes may be in use/);
    await lost.kill();
    await until(
      'the node is unreachable',
      async () => (await stateOf(one.endpoint)) === 'unreachable',
    );
    const unasked = await node('forget', lost.id);
    t.is(unasked.exitCode, 2, 'without a terminal, --yes is needed');
    const restarting = await node('forget', lost.id, '--yes');
    t.is(restarting.exitCode, 1);
    t.regex(restarting.stderr, /has been unreachable for \d+ s only/);
    t.is(await codeOf(first.DeleteVolume({ volume_id })), 'UNAVAILABLE');

    const forgotten = await node('forget', lost.id, '--yes', '--force');
    t.is(forgotten.exitCode, 0, forgotten.stderr);
    t.regex(forgotten.stdout, /was forgotten\. Its volumes and snapshots can be deleted now/);
    await one.kill();
    t.is(await codeOf(first.DeleteVolume({ volume_id })), 'UNAVAILABLE', 'it is not running');
    await until('the other controller sees it', async () => {
      return (await stateOf(two.endpoint)) === 'forgotten';
    });
    t.is(await codeOf(second.DeleteVolume({ volume_id })), 'OK');
    t.is(await codeOf(second.ControllerGetVolume({ volume_id })), 'NOT_FOUND');
    await one.start();
    await until('it is forgotten after the restart', async () => {
      const { exitCode } = await node('list');
      return exitCode === 0 && (await stateOf(one.endpoint)) === 'forgotten';
    });
    await until('lists are complete without it', async () =>
      first.ListVolumes({}).then(
        ({ entries }) => entries.length === 0,
        () => false,
      ),
    );
    t.is(await codeOf(first.DeleteVolume({ volume_id })), 'OK');

    await lost.start();
    await until('it is refused', async () => (await stateOf(one.endpoint)) === 'refused');
    t.is(await codeOf(first.DeleteVolume({ volume_id })), 'OK', 'and nothing is deleted there');
    const local = clientAt(t, 'csi.v1.Controller', lost.driver().endpoint);
    t.is((await local.ListVolumes({})).entries.length, 1);

    const remembered = await runCommand(two.endpoint, 'node', 'remember', lost.id);
    t.is(remembered.exitCode, 0, remembered.stderr);
    await two.kill();
    await until('its volumes are there again', async () =>
      first.ControllerGetVolume({ volume_id }).then(
        () => true,
        () => false,
      ),
    );
    await first.DeleteVolume({ volume_id });
    t.is((await local.ListVolumes({})).entries.length, 0);

    const driver = await runCommand(lost.driver().endpoint, 'node', 'list');
    t.is(driver.exitCode, 1);
    t.regex(driver.stderr, /is no controller/);
  }),
);
