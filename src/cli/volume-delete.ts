import type { Command } from 'commander';
import type { Volume } from '../csi/admin-types.ts';
import { FailedError, failureOf, rephraseForCli } from './errors.ts';
import { getVolume } from './lookup.ts';
import { count, formatPromisedSize, formatSize } from './output.ts';
import { printable } from './printable.ts';
import { retryWhileBusy } from './retry-while-busy.ts';
import type { Session } from './session.ts';
import * as routed from './through-controller.ts';
import { formatOf } from './volume-format.ts';

export function addDeleteCommand(volume: Command, session: Session): void {
  volume
    .command('delete')
    .alias('rm')
    .description('delete volumes with all their data; their snapshots are kept')
    .argument('<volume...>', 'ids, names or claims')
    .option('-y, --yes', 'do not ask for confirmation')
    .action(deleteVolumes.bind(null, session));
}

/** What is deleted: a volume, or one that a call is still creating, which has only an id and a name. */
interface Doomed {
  readonly volume_id: string;
  readonly name: string;
  readonly volume: Volume | undefined;
}

async function deleteVolumes(
  session: Session,
  idsOrNames: readonly string[],
  options: { readonly yes?: boolean },
): Promise<void> {
  if (await session.isController()) return routed.deleteVolumes(session, idsOrNames, options);
  const all: Doomed[] = [];
  for (const idOrName of idsOrNames) all.push(await findForDelete(session, idOrName));
  for (const { volume } of all) if (volume !== undefined) requireUnmounted(volume);
  if (options.yes !== true && !(await confirmDelete(session, all))) {
    throw new FailedError('nothing was deleted');
  }
  for (const one of all) {
    if (one.volume === undefined) await requireUnfinished(session, one);
    await deleteOne(session, one);
    // Each deletion is printed at once, so that it is clear which volumes were deleted if a later one fails.
    if (session.isText) session.terminal.print(doneText(one));
  }
  if (session.isText) return;
  await session.show(
    all.map(({ volume_id: id, name }) => ({ id, name })),
    () => '',
  );
}

/** A volume that is being created, for example imported, can be found only by its name. */
async function findForDelete(session: Session, idOrName: string): Promise<Doomed> {
  try {
    const volume = await getVolume(session, idOrName);
    return { volume_id: volume.volume_id, name: volume.name, volume };
  } catch (error) {
    if (failureOf(error).code !== 'NOT_FOUND') throw error;
    const { admin } = await session.driver();
    const { volume_id } = await admin.GetProgress({ volume_name: idOrName });
    if (volume_id === '') throw error;
    return { volume_id, name: idOrName, volume: undefined };
  }
}

/** A creation may have ended while the question was answered. Then its volume may be in use, and nobody agreed to delete it. */
async function requireUnfinished(session: Session, { name }: Doomed): Promise<void> {
  try {
    await getVolume(session, name);
  } catch (error) {
    if (failureOf(error).code === 'NOT_FOUND') return;
    throw error;
  }
  throw new FailedError(
    `volume '${printable(name)}' has been created meanwhile, so it was not deleted; to delete it, run the command again`,
  );
}

function doneText({ name, volume }: Doomed): string {
  return volume === undefined
    ? `The creation of volume '${printable(name)}' was cancelled.`
    : `Volume '${printable(name)}' was deleted.`;
}

async function deleteOne(session: Session, { volume_id, name, volume }: Doomed): Promise<void> {
  const { controller, admin } = await session.driver();
  await retryWhileBusy(session.terminal, `deleting '${name}'`, () =>
    rephraseForCli({ volume_id, name }, async () => {
      // An inline volume is deleted by its unmount.
      if (volume?.ephemeral === true) {
        await admin.UnmountVolume({ volume_id: name, target_path: '' });
      } else await controller.DeleteVolume({ volume_id });
    }),
  );
}

/**
 * The driver also refuses to delete a mounted volume, but only after other volumes of the list were deleted, and its message
 * is written for orchestrators.
 */
function requireUnmounted(volume: Volume): void {
  const { published_at, staged_at, mount_ids, ephemeral } = volume;
  // The driver decides whether an inline volume may be deleted.
  if (ephemeral || published_at.length + staged_at.length === 0) return;
  const name = printable(volume.name);
  if (published_at.length > 0) {
    throw new FailedError(
      `volume '${name}' is mounted at ${published_at.join(', ')}; unmount it first: loopcsi volume unmount ${name}`,
    );
  }
  const user = mount_ids.length > 0 ? 'Docker' : 'an orchestrator';
  throw new FailedError(
    `volume '${name}' is in use by ${user} (mounted at ${staged_at.join(', ')}); stop the containers or pods that use it first`,
  );
}

async function confirmDelete(session: Session, all: readonly Doomed[]): Promise<boolean> {
  const lines = all.map(({ name, volume }) =>
    volume === undefined
      ? `  ${printable(name)}  which is still being created`
      : `  ${printable(name)}  ${detailsOf(volume)}`,
  );
  return session.terminal.confirm(`Delete ${count(all.length, 'volume')}?`, [
    'These volumes will be deleted with all their data:',
    ...lines,
  ]);
}

function detailsOf(volume: Volume): string {
  const { size_bytes, allocated_bytes, pool } = volume;
  return `${formatPromisedSize(size_bytes)} ${formatOf(volume)}, ${formatSize(allocated_bytes)} allocated, in pool '${pool}'`;
}
