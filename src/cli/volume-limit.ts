/** `loopcsi volume limit`. */
import type { Command } from 'commander';
import type { ParameterName } from '../volumes/parameters/storage-class.ts';
import { rephraseForCli, UsageError } from './errors.ts';
import { getVolume } from './lookup.ts';
import { printable } from './printable.ts';
import type { Session } from './session.ts';
import { limitsText, volumeAsJson } from './volume-format.ts';

/** Options with the names of the parameters; their values are those of docs/parameters.md. */
export interface LimitOptions {
  readonly readBytesPerSecond?: string;
  readonly writeBytesPerSecond?: string;
  readonly readIops?: string;
  readonly writeIops?: string;
}

export function addLimitOptions(command: Command): Command {
  return command
    .option('--read-bytes-per-second <SIZE>', 'limit of reads, for example 50Mi')
    .option('--write-bytes-per-second <SIZE>', 'limit of writes')
    .option('--read-iops <NUMBER>', 'limit of read requests per second')
    .option('--write-iops <NUMBER>', 'limit of write requests per second');
}

/** The parameters for those options that are given. */
export function limitParametersFor(options: LimitOptions): Readonly<Record<string, string>> {
  const { readBytesPerSecond, writeBytesPerSecond, readIops, writeIops } = options;
  const given: Record<ParameterName & keyof LimitOptions, string | undefined> = {
    readBytesPerSecond,
    writeBytesPerSecond,
    readIops,
    writeIops,
  };
  return Object.fromEntries(
    Object.entries(given).flatMap(([key, value]) =>
      value === undefined ? [] : [[key, value] as const],
    ),
  );
}

const clearedLimits = {
  readBytesPerSecond: 'max',
  writeBytesPerSecond: 'max',
  readIops: 'max',
  writeIops: 'max',
} as const satisfies LimitOptions;

export function addLimitCommand(volume: Command, session: Session): void {
  const limit = volume
    .command('limit')
    .description(
      'limit the I/O of a volume, even while it is in use; without options, show its limits',
    )
    .argument('<volume>', 'id, name or claim');
  addLimitOptions(limit)
    .option('--clear', 'remove all limits; max removes a single one')
    .action(limitVolume.bind(null, session));
}

async function limitVolume(
  session: Session,
  idOrName: string,
  options: LimitOptions & { readonly clear?: boolean },
): Promise<void> {
  const given = limitParametersFor(options);
  const isGiven = Object.keys(given).length > 0;
  if (options.clear === true && isGiven) {
    throw new UsageError('--clear removes all limits and cannot be combined with a limit');
  }
  const found = await getVolume(session, idOrName);
  if (options.clear === true || isGiven) {
    const { controller } = await session.driver();
    const mutable_parameters = options.clear === true ? clearedLimits : given;
    const { volume_id } = found;
    await rephraseForCli(found, () =>
      controller.ControllerModifyVolume({ volume_id, mutable_parameters }),
    );
  }
  const volume = await getVolume(session, found.volume_id);
  await session.show(volumeAsJson(volume), () => {
    const limits = limitsText(volume);
    return `Volume '${printable(volume.name)}' ${limits === '' ? 'has no I/O limits' : `is limited: ${limits}`}.`;
  });
}
