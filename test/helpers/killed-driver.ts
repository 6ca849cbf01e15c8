/**
 * Separate process: killed-driver JSON. Opens the pool of a scratch node, makes one call, and kills itself with SIGKILL when
 * the call reaches a fault point. Exits with code 3 when the call did not reach it.
 */
import { join } from 'node:path';
import { kill, pid } from 'node:process';
import { makeRealHost } from '../../src/host/real-host.ts';
import { createLog } from '../../src/observe/log.ts';
import type { Volumes } from '../../src/volumes/api.ts';
import type { FaultPoint } from '../../src/volumes/engine/fault-points.ts';
import type {
  CreateGroupSnapshotInput,
  CreateSnapshotInput,
  VolumeKind,
} from '../../src/volumes/model.ts';
import { openVolumes } from '../../src/volumes/open.ts';
import { poolDefaults } from '../../src/volumes/pool/settings.ts';
import { call, testSettings, volumeInput } from './scratch-node.ts';

/** The call during which the process is killed. */
export type KilledCall =
  | { readonly rpc: 'snapshot'; readonly input: CreateSnapshotInput }
  | {
      readonly rpc: 'restore';
      readonly name: string;
      readonly snapshotId: string;
      readonly kind?: VolumeKind;
    }
  | { readonly rpc: 'deleteSnapshot'; readonly snapshotId: string }
  | { readonly rpc: 'group'; readonly input: CreateGroupSnapshotInput }
  | { readonly rpc: 'deleteGroup'; readonly groupId: string; readonly members: readonly string[] }
  | { readonly rpc: 'open' };

export interface KilledDriver {
  readonly directory: string;
  readonly point: FaultPoint;
  readonly work: KilledCall;
}

async function makeCall(volumes: Volumes, work: KilledCall): Promise<void> {
  switch (work.rpc) {
    case 'snapshot':
      await volumes.createSnapshot(call(), work.input);
      return;
    case 'restore': {
      const source = { kind: 'snapshot', id: work.snapshotId } as const;
      const { name, kind = 'mount' } = work;
      await volumes.createVolume(call(), volumeInput(name, { source, kind, isFsTypeUnset: true }));
      return;
    }
    case 'deleteSnapshot':
      await volumes.deleteSnapshot(call(), work.snapshotId);
      return;
    case 'group':
      await volumes.createGroupSnapshot(call(), work.input);
      return;
    case 'deleteGroup':
      await volumes.deleteGroupSnapshot(call(), work.groupId, work.members);
      return;
    case 'open':
  }
}

async function run({ directory, point, work }: KilledDriver): Promise<void> {
  const { volumes, domain } = await openVolumes({
    host: makeRealHost(),
    log: createLog({ level: 'silent' }),
    stateDir: join(directory, 'state'),
    settings: testSettings,
    kubeletDir: undefined,
    pools: [{ ...poolDefaults, name: 'default', path: join(directory, 'pool'), create: true }],
    reached: (reached) => {
      if (reached === point) kill(pid, 'SIGKILL');
    },
  });
  await makeCall(volumes, work);
  await domain.snapshotCopies.whenIdle();
  await domain.trash.whenIdle();
}

const [text] = process.argv.slice(2);
if (text !== undefined && import.meta.filename === process.argv[1]) {
  await run(JSON.parse(text) as KilledDriver);
  process.exit(3);
}
