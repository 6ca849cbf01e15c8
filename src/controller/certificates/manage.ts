/** `--manage-certificates`: one of the controllers keeps the certificates of all. */

import { VolumeError } from '../../errors.ts';
import type { Logger } from '../../observe/log.ts';
import type { KubeClient } from '../kube/client.ts';
import { leadByLease } from '../kube/lease.ts';
import { keepCertificates } from './keep.ts';

interface CertificatesOption {
  readonly namespace: string;
  /** Prefix of the names of the Secrets, and name of the Lease. */
  readonly prefix: string;
}

interface ManageOptions extends CertificatesOption {
  readonly client: KubeClient;
  readonly driverName: string;
  /** Unique for each process: the name of the pod. */
  readonly identity: string;
  readonly log: Logger;
}

/** Parses NAMESPACE/PREFIX. Throws `invalid`. */
export function parseCertificates(text: string): CertificatesOption {
  const [, namespace, prefix] = /^([a-z0-9-]+)\/([a-z0-9][a-z0-9-]*)$/.exec(text) ?? [];
  if (namespace === undefined || prefix === undefined) {
    throw new VolumeError(
      'invalid',
      `--manage-certificates: '${text}' is not NAMESPACE/PREFIX, as in storage/loopcsi`,
    );
  }
  return { namespace, prefix };
}

/** Takes part in the election and keeps the certificates while it leads. Resolves when the signal is aborted and the work has ended. */
export async function manageCertificates(
  options: ManageOptions,
  signal: AbortSignal,
): Promise<void> {
  const { client, namespace, prefix, identity, log, driverName } = options;
  await leadByLease({
    client,
    namespace,
    name: prefix,
    identity,
    log,
    signal,
    lead: (leading) => keepCertificates({ client, namespace, prefix, driverName, log }, leading),
  });
}
