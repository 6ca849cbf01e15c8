import { mkdtemp, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeRealHost } from '../../src/host/real-host.ts';
import { nodeTagOf } from '../../src/ids.ts';
import { createLog } from '../../src/observe/log.ts';
import { MiB } from '../../src/units.ts';
import { openVolumes } from '../../src/volumes/open.ts';
import { poolDefaults } from '../../src/volumes/pool/settings.ts';
import { onNode } from '../helpers/on-node.ts';
import { call, capability, testSettings, volumeInput } from '../helpers/scratch-node.ts';
import { removeAll } from '../helpers/scratch-pool.ts';
import { unpackArchive } from '../upgrade/pool-archive.ts';

const archives = join(import.meta.dirname, '..', '..', '..', 'test', 'upgrade', 'pools');
const text = 'written by an earlier version\n';

for (const archive of await readdir(archives)) {
  onNode(`a pool of an earlier version is brought forward: ${archive}`, async (t) => {
    const directory = await mkdtemp('/var/tmp/loopcsi-upgrade-');
    t.teardown(async () => {
      const left = await removeAll(directory);
      if (left.length > 0) throw new Error(`left over: ${left.join(', ')}`);
    });
    await unpackArchive(join(archives, archive), directory);
    const open = async () => {
      const opened = await openVolumes({
        host: makeRealHost(),
        log: createLog({ level: 'silent' }),
        stateDir: join(directory, 'state'),
        settings: { ...testSettings, nodeTag: nodeTagOf('upgraded-node') },
        kubeletDir: undefined,
        pools: [{ ...poolDefaults, name: 'default', path: join(directory, 'pool') }],
      });
      t.teardown(() => opened.close(1_000));
      return opened;
    };
    const { volumes, administration, docker: _, ...opened } = await open();
    const page = { maxEntries: 0, startingToken: '', pool: '' };
    const { entries } = await administration.listVolumes(page);
    t.deepEqual(
      entries.map(({ record, conditions }) => [record.name, conditions]),
      ['plain', 'raw', 'restored', 'thick'].map((name) => [name, []]),
    );
    const snapshots = await administration.listSnapshots({ ...page, sourceVolumeId: '' });
    t.is(snapshots.entries.length, 3);
    const contentOf = async (volumeId: string): Promise<string> => {
      const at = { volumeId, stagingTargetPath: join(directory, `staging-${volumeId}`) };
      await opened.domain.host.files.makeDirectory(at.stagingTargetPath);
      await volumes.stageVolume(call(), { ...at, capability: capability() });
      const content = await readFile(join(at.stagingTargetPath, 'file'), 'utf8').catch(() => '');
      await volumes.unstageVolume(call(), at);
      return content;
    };
    const idOf = (name: string): string =>
      entries.find(({ record }) => record.name === name)?.record.id ?? '';
    t.is(await contentOf(idOf('plain')), text);
    t.is(await contentOf(idOf('restored')), text);
    t.is(await contentOf(idOf('thick')), '', 'it has no file, but it can be mounted');

    const members = snapshots.entries.filter(({ record }) => record.groupId !== null);
    const groupId = members[0]?.record.groupId ?? '';
    const memberIds = members.map(({ record }) => record.id);
    t.is((await volumes.getGroupSnapshot(groupId, memberIds)).snapshots.length, 2);
    const [member] = members.filter(({ record }) => record.fsType !== null);
    const source = { kind: 'snapshot', id: member?.record.id ?? '' } as const;
    const made = await volumes.createVolume(call(), volumeInput('from-member', { source }));
    t.is(await contentOf(made.record.id), text);
    const range = { requiredBytes: 12n * MiB, limitBytes: 0n };
    for (const name of ['plain', 'raw']) {
      await volumes.expandVolume(call(), { volumeId: idOf(name), range });
    }
    t.is(await contentOf(idOf('plain')), text, 'after its growth');
    await volumes.deleteGroupSnapshot(call(), groupId, memberIds);
    const before = await volumes.listVolumes(page);
    await opened.close(1_000);
    const again = await open();
    t.deepEqual(await again.volumes.listVolumes(page), before, 'what was written can be read');
    t.deepEqual(await again.volumes.listVolumeHealth(page), { entries: [], nextToken: '' });
  });
}
