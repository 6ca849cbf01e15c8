import type { VolumeId } from '../../ids.ts';
import type { Domain } from '../domain.ts';
import type { Operation } from '../engine/operations.ts';
import type { CopyReport } from '../jobs/transfers.ts';
import type { RemoteSource, VolumeSource } from '../model.ts';
import { receiveImage } from './receive.ts';
import type { Origin } from './restore-source.ts';

/** A snapshot or volume of another node as the origin of a new volume. Throws as `RemoteSource.describe` does. */
export async function remoteOrigin(
  domain: Domain,
  operation: Operation,
  draft: {
    remote: RemoteSource;
    source: VolumeSource;
    volumeId: VolumeId;
    subject: string;
    report: CopyReport;
  },
): Promise<Origin> {
  const { remote, source, volumeId, report } = draft;
  const { nodeId } = remote;
  const name = `${source.kind}:${source.id}`;
  const kept = domain.interruptedRestores.sourceOf(volumeId);
  const isSame = kept !== undefined && 'nodeId' in kept && kept.source === name;
  const facts = await remote.describe(operation.signal, { state: isSame ? kept.state : undefined });
  await domain.reached('receive:described');
  const { state, sizeBytes, allocatedBytes, ...format } = facts;
  const subject = `${source.kind} '${source.id}' of node '${nodeId}'`;
  const copySource = {
    kind: 'remote',
    source: name,
    ...{ nodeId, state },
  } as const;
  return {
    ...format,
    subject,
    pool: undefined,
    image: { sizeBytes, allocatedBytes },
    sharedBytes: 0n,
    copySource,
    copyTo: (to, operation, from) =>
      receiveImage(domain, {
        ...{ remote, state, sizeBytes, to, volumeId, source: copySource, from, operation, report },
        subject: `${draft.subject}: ${subject}`,
      }),
  };
}
