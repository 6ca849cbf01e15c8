/**
 * Keeps the Secrets with the authority and the certificates of both roles. Every write replaces one Secret of the version that was
 * read, so that two controllers that both believe to lead cannot undo each other's steps, and one that is killed between two
 * writes leaves a state from which the next step follows.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { messageOf, VolumeError } from '../../errors.ts';
import type { Logger } from '../../observe/log.ts';
import { issueCertificate, makeAuthority } from '../../tls/authority.ts';
import { type Role, roles } from '../../tls/roles.ts';
import { decodeObject, hasStatus, type KubeClient, type KubeObject } from '../kube/client.ts';
import {
  type AuthorityState,
  bundleOf,
  decodeAuthority,
  encodeAuthority,
  pairIn,
  textsOf,
  withTexts,
} from './authority-secret.ts';
import { nextStep, type RoleSecret } from './next-step.ts';

export interface KeptCertificates {
  readonly client: KubeClient;
  readonly namespace: string;
  /** The Secrets are named PREFIX-ca, PREFIX-controller-tls and PREFIX-agent-tls. They exist, but may be empty. */
  readonly prefix: string;
  readonly driverName: string;
  readonly log: Logger;
  /** Milliseconds of the epoch; tests replace the clock. */
  readonly now?: () => number;
}

/** How often the Secrets are read. */
const checkEveryMs = 60_000;
/** From nothing to complete are three steps; a replacement of the authority has five in all. */
const maxSteps = 20;

/** Checks the certificates until the signal is aborted. */
export async function keepCertificates(kept: KeptCertificates, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      await checkCertificates(kept, signal);
    } catch (error) {
      kept.log.error({ problem: messageOf(error) }, 'the certificates were not checked');
    }
    await delay(checkEveryMs, undefined, { signal }).catch(() => undefined);
  }
}

/** Does all steps that are due. Idempotent. Throws an error of the API, or `not-found` for a missing Secret. */
export async function checkCertificates(
  kept: KeptCertificates,
  signal?: AbortSignal,
): Promise<void> {
  for (let steps = 0; steps < maxSteps && signal?.aborted !== true; steps += 1) {
    try {
      if (await takeStep(kept)) return;
    } catch (error) {
      // Another controller has written since the read: look again.
      if (!hasStatus(error, 409)) throw error;
    }
  }
}

/** Reads everything and takes the next step. Returns true if there is none. */
async function takeStep(kept: KeptCertificates): Promise<boolean> {
  const { driverName, log, now = Date.now } = kept;
  const nowMs = now();
  // The authority is read first: a certificate of an authority that is replaced meanwhile is found by the next look.
  const secret = await readSecret(kept, 'ca');
  const found = await Promise.all(
    roles.map(async (role) => [role, await readSecret(kept, `${role}-tls`)] as const),
  );
  const secrets = Object.fromEntries(found) as Record<Role, KubeObject>;
  const roleSecrets = Object.fromEntries(
    found.map(([role, one]) => [role, decodeRole(one)]),
  ) as Record<Role, RoleSecret>;
  const authority = decodeAuthority(secret);
  const step = nextStep({ driverName, authority, roleSecrets }, nowMs);
  switch (step?.kind) {
    case undefined:
      return true;
    case 'make-authority':
      log.info({}, 'a certificate authority was made');
      await writeAuthority(kept, secret, { signing: await makeAuthority({ nowMs }) });
      return false;
    case 'make-next':
      log.info({}, 'the replacement of the certificate authority began');
      await writeAuthority(kept, secret, {
        ...step.authority,
        next: await makeAuthority({ nowMs }),
        distributedAtMs: undefined,
      });
      return false;
    case 'write-authority':
      await writeAuthority(kept, secret, step.authority);
      return false;
    case 'issue':
      await issue(kept, secrets[step.role], { ...step, nowMs });
      log.info({ role: step.role }, 'a certificate was issued');
      return false;
  }
}

function decodeRole(secret: KubeObject): RoleSecret {
  const texts = textsOf(secret);
  return { bundle: texts['ca.crt'] ?? '', pair: pairIn(texts, 'tls') };
}

async function issue(
  kept: KeptCertificates,
  secret: KubeObject,
  by: { readonly authority: AuthorityState; readonly role: Role; readonly nowMs: number },
): Promise<void> {
  const { authority, role, nowMs } = by;
  const holder = { driverName: kept.driverName, role };
  const { certificate, key } = await issueCertificate(authority.signing, holder, { nowMs });
  await replaceSecret(
    kept,
    withTexts(secret, { 'ca.crt': bundleOf(authority), 'tls.crt': certificate, 'tls.key': key }),
  );
}

async function writeAuthority(
  kept: KeptCertificates,
  secret: KubeObject,
  state: AuthorityState,
): Promise<void> {
  await replaceSecret(kept, encodeAuthority(secret, state));
}

async function replaceSecret(kept: KeptCertificates, secret: KubeObject): Promise<void> {
  const body = { ...secret, apiVersion: 'v1', kind: 'Secret' };
  await kept.client.replace(`${collectionOf(kept)}/${secret.metadata.name}`, body);
}

async function readSecret(kept: KeptCertificates, suffix: string): Promise<KubeObject> {
  const name = `${kept.prefix}-${suffix}`;
  try {
    return decodeObject(await kept.client.get(`${collectionOf(kept)}/${name}`));
  } catch (error) {
    if (!hasStatus(error, 404)) throw error;
    // Without the right to create Secrets the controller cannot obtain tokens of other service accounts.
    throw new VolumeError(
      'not-found',
      `Secret ${kept.namespace}/${name} does not exist, and the controller may not create it: run helm upgrade, which creates it empty`,
      { cause: error },
    );
  }
}

const collectionOf = ({ namespace }: KeptCertificates): string =>
  `/api/v1/namespaces/${namespace}/secrets`;
