import type { Source } from '../../csi/agent-types.ts';
import { VolumeError } from '../../errors.ts';
import type { SentCopy } from '../../volumes/model.ts';
import { requireText } from '../validate.ts';

/** Throws `invalid` for a source without kind, id or name of its copy. */
export function parseCopy(message: Source | null): SentCopy {
  if (message === null) throw new VolumeError('invalid', 'source is missing');
  const { kind, id, copy_name } = message;
  if (kind !== 'snapshot' && kind !== 'volume')
    throw new VolumeError('invalid', "source.kind must be 'snapshot' or 'volume'");
  return {
    source: { kind, id: requireText(id, 'source.id') },
    copyName: requireText(copy_name, 'source.copy_name'),
  };
}

export function copyMessage({ source: { kind, id }, copyName }: SentCopy): Source {
  return { kind, id, copy_name: copyName };
}
