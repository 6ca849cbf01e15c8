import { resolve } from 'node:path';
import type { Command } from 'commander';
import type { Volume } from '../csi/admin-types.ts';
import { FailedError, inOwnWords } from './errors.ts';
import { allVolumes, findVolume } from './lookup.ts';
import { count, formatSize, formatTable } from './output.ts';
import { sizeOf } from './parse-size.ts';
import { patiently } from './retry-while-busy.ts';
import type { Act, Session } from './session.ts';
import { addCreateCommands } from './volume-create.ts';
import {
  describeVolume,
  expandWords,
  formatOf,
  volumeAsJson,
  volumeColumns,
} from './volume-format.ts';

export function addVolumeCommands(program: Command, act: Act): void {
  const volume = program.command('volume').description('make, mount, grow and delete volumes');
  addCreateCommands(volume, act);
  volume
    .command('list')
    .alias('ls')
    .description('all volumes, by id')
    .option('--pool <NAME>', 'only those of one pool')
    .action(act(listVolumes));
  volume
    .command('get')
    .description('everything about one volume')
    .argument('<volume>', 'id or name')
    .action(act(getVolume));
  volume
    .command('mount')
    .description('mount a volume; repeated, it is a success')
    .argument('<volume>', 'id or name')
    .argument('<dir>', 'directory to mount at, made when missing; a file for a block volume')
    .option('--read-only', 'nothing can be written there')
    .option('--options <LIST>', 'mount options, separated by commas: noatime,nodev')
    .action(act(mountVolume));
  volume
    .command('unmount')
    .alias('umount')
    .description('undo mount; not mounted is a success')
    .argument('<volume>', 'id or name')
    .argument('[dir]', 'only there; without it everywhere')
    .action(act(unmountVolume));
  volume
    .command('expand')
    .description('grow a volume, in use or not')
    .argument('<volume>', 'id or name')
    .requiredOption('--size <SIZE>', 'new size, for example 20Gi')
    .action(act(expandVolume));
  volume
    .command('delete')
    .alias('rm')
    .description('delete volumes with all their data; snapshots of them stay')
    .argument('<volume...>', 'ids or names')
    .option('--yes', 'do not ask')
    .action(act(deleteVolumes));
  volume
    .command('health')
    .description('signs of trouble; exits with 1 when there are any')
    .argument('[volume]', 'id or name; without it all volumes')
    .action(act(showHealth));
}

async function listVolumes(session: Session, options: { readonly pool?: string }): Promise<void> {
  const volumes = await allVolumes(session, options.pool ?? '');
  await session.show(volumes.map(volumeAsJson), () =>
    volumes.length === 0 && session.terminal.isInteractive
      ? 'There are no volumes yet; make one with: loopcsi volume create data --size 10Gi'
      : formatTable(session.terminal, volumes, volumeColumns),
  );
}

async function getVolume(session: Session, idOrName: string): Promise<void> {
  const volume = await findVolume(session, idOrName);
  await session.show(volumeAsJson(volume), () => describeVolume(session.terminal, volume));
}

async function mountVolume(
  session: Session,
  idOrName: string,
  directory: string,
  options: { readonly readOnly?: boolean; readonly options?: string },
): Promise<void> {
  const found = await findVolume(session, idOrName);
  const { volume_id } = found;
  const { admin } = await session.driver();
  const mount_flags = options.options?.split(',').filter((word) => word !== '') ?? [];
  await inOwnWords(found, () =>
    admin.MountVolume({
      volume_id,
      target_path: resolve(directory),
      read_only: options.readOnly === true,
      mount_flags,
    }),
  );
  const volume = await findVolume(session, volume_id);
  await session.show(
    volumeAsJson(volume),
    () =>
      `Volume '${volume.name}' is mounted at ${resolve(directory)}${options.readOnly === true ? ', read-only' : ''}.`,
  );
}

async function unmountVolume(
  session: Session,
  idOrName: string,
  directory: string | undefined,
): Promise<void> {
  const volume = await findVolume(session, idOrName);
  const { volume_id, name, published_at: before, ephemeral } = volume;
  if (ephemeral) {
    throw new FailedError(
      `volume '${name}' is an inline volume of a pod and ends with it: delete the pod. When the pod is gone already: loopcsi volume delete ${name}`,
    );
  }
  const { admin } = await session.driver();
  const target_path = directory === undefined ? '' : resolve(directory);
  const { target_paths } = await patiently(session.terminal, `unmounting '${name}'`, () =>
    inOwnWords(volume, () => admin.UnmountVolume({ volume_id, target_path })),
  );
  // An attempt that met something busy may have unmounted some already.
  const early = before.filter((path) => target_path === '' || path === target_path);
  const places = [...new Set([...early, ...target_paths])];
  await session.show(volumeAsJson(await findVolume(session, volume_id)), () =>
    places.length === 0
      ? `Volume '${name}' was not mounted${directory === undefined ? '' : ` at ${target_path}`}.`
      : `Volume '${name}' is unmounted from ${places.join(', ')}.`,
  );
}

async function expandVolume(
  session: Session,
  idOrName: string,
  options: { readonly size: string },
): Promise<void> {
  const size_bytes = sizeOf(options.size, '--size');
  const found = await findVolume(session, idOrName);
  const { volume_id, size_bytes: before } = found;
  const { admin } = await session.driver();
  const { volume, at_next_mount: atNextMount } = await inOwnWords(found, () =>
    admin.ExpandVolume({ volume_id, size_bytes }),
  );
  if (volume === null) throw new Error('the driver answered no volume');
  await session.show({ ...volumeAsJson(volume), atNextMount }, () =>
    size_bytes < before
      ? `Volume '${volume.name}' has ${formatSize(volume.size_bytes)} already, and no volume shrinks.`
      : expandWords(volume, atNextMount),
  );
}

async function deleteVolumes(
  session: Session,
  idsOrNames: readonly string[],
  options: { readonly yes?: boolean },
): Promise<void> {
  const volumes: Volume[] = [];
  for (const idOrName of idsOrNames) volumes.push(await findVolume(session, idOrName));
  for (const volume of volumes) requireUnmounted(volume);
  if (options.yes !== true && !(await confirmDelete(session, volumes))) {
    throw new FailedError('nothing was deleted');
  }
  const { controller, admin } = await session.driver();
  for (const volume of volumes) {
    const { volume_id, name, ephemeral } = volume;
    await patiently(session.terminal, `deleting '${name}'`, () =>
      inOwnWords(volume, async () => {
        // An inline volume goes with its last mount.
        if (ephemeral) await admin.UnmountVolume({ volume_id: name, target_path: '' });
        else await controller.DeleteVolume({ volume_id });
      }),
    );
    // At once: should a later one fail, it is known which are gone.
    if (!session.isJson) session.terminal.print(`Volume '${name}' is deleted.`);
  }
  if (!session.isJson) return;
  await session.show(
    volumes.map(({ volume_id: id, name }) => ({ id, name })),
    () => '',
  );
}

/** The driver would refuse too, but after some of them were deleted, and in an orchestrator's words. */
function requireUnmounted({ name, published_at, staged_at, ephemeral }: Volume): void {
  // What may be done with an inline volume the driver says.
  if (ephemeral || published_at.length + staged_at.length === 0) return;
  throw new FailedError(
    published_at.length > 0
      ? `volume '${name}' is mounted at ${published_at.join(', ')}; unmount it first: loopcsi volume unmount ${name}`
      : `volume '${name}' is in use, staged at ${staged_at.join(', ')}; stop the containers or pods that use it first`,
  );
}

async function confirmDelete(session: Session, volumes: readonly Volume[]): Promise<boolean> {
  const { terminal } = session;
  const lines = volumes.map((volume) => {
    const { name, size_bytes, allocated_bytes, pool } = volume;
    return `  ${name}  ${formatSize(size_bytes)} ${formatOf(volume)}, ${formatSize(allocated_bytes)} written, in pool '${pool}'`;
  });
  return terminal.confirm(`Delete ${count(volumes.length, 'volume')}?`, [
    'These volumes will be deleted with all their data:',
    ...lines,
  ]);
}

async function showHealth(session: Session, idOrName: string | undefined): Promise<void> {
  const volumes =
    idOrName === undefined ? await allVolumes(session, '') : [await findVolume(session, idOrName)];
  const troubled = volumes.filter(({ problems }) => problems.length > 0);
  const found = troubled.map((volume) => {
    const { id, name, problems } = volumeAsJson(volume);
    return { id, name, problems };
  });
  await session.show(found, () =>
    found.length === 0
      ? `${count(volumes.length, 'volume')}: ok`
      : found
          .flatMap(({ name, problems }) =>
            problems.map(
              ({ status, reason, message }) => `${name}: ${status} ${reason}: ${message}`,
            ),
          )
          .join('\n'),
  );
  if (found.length > 0) throw new FailedError('');
}
