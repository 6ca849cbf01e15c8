/**
 * What has to be done next to keep the certificates. An authority is replaced in steps, so that at every moment, and with Secrets
 * that reached some pods days ago, controllers and agents trust each other:
 *
 *   signing                    → add the next authority to the bundle
 *   signing, next              → once the bundle has been with everyone for a week: the next one signs, the old one stays trusted
 *   signing, previous          → once the new certificates have been with everyone for a week: the old one is dropped
 */
import { X509Certificate } from 'node:crypto';
import { certificateLifetimeMs, type KeyPair } from '../../tls/authority.ts';
import { findPeerProblem, type Role, roles } from '../../tls/roles.ts';
import { type AuthorityState, bundleOf } from './authority-secret.ts';

const dayMs = 24 * 60 * 60 * 1000;
/** A certificate is renewed when a third of its life is left: 60 of 90 days have passed. */
const renewBeforeMs = certificateLifetimeMs / 3;
/** An authority is replaced half a year before its end, so that no certificate is cut short, unless it was made by others. */
const replaceBeforeMs = 180 * dayMs;
/** The kubelet needs two minutes to refresh mounted Secrets. A week spares nodes that were cut off from the API server. */
const settleMs = 7 * dayMs;

/** What a role's Secret contains. */
export interface RoleSecret {
  readonly bundle: string;
  readonly pair: KeyPair | undefined;
}

export interface Certificates {
  readonly driverName: string;
  readonly authority: AuthorityState | undefined;
  readonly roleSecrets: Readonly<Record<Role, RoleSecret>>;
}

type Step =
  /** Make a new authority that signs at once. Everything issued before becomes worthless. */
  | { readonly kind: 'make-authority' }
  /** Make the next authority. */
  | { readonly kind: 'make-next'; readonly authority: AuthorityState }
  | { readonly kind: 'write-authority'; readonly authority: AuthorityState }
  | { readonly kind: 'issue'; readonly role: Role; readonly authority: AuthorityState };

/** undefined: nothing has to be done now. Each step is one write of one Secret. */
export function nextStep(certificates: Certificates, nowMs: number): Step | undefined {
  const { authority } = certificates;
  if (authority === undefined) return { kind: 'make-authority' };
  if (leftMs(authority.signing, nowMs) <= 0) {
    // Everyone who has the current bundle trusts the next one.
    return authority.next !== undefined && leftMs(authority.next, nowMs) > 0
      ? { kind: 'write-authority', authority: { signing: authority.next } }
      : { kind: 'make-authority' };
  }
  const { signing, next, previous, distributedAtMs } = authority;
  if (next === undefined && leftMs(signing, nowMs) < replaceBeforeMs) {
    return { kind: 'make-next', authority };
  }
  const stale = roles.find((role) => !isCurrent(certificates, authority, role, nowMs));
  if (stale !== undefined) return { kind: 'issue', role: stale, authority };
  if (next === undefined && previous === undefined) return undefined;
  if (distributedAtMs === undefined) {
    return { kind: 'write-authority', authority: { ...authority, distributedAtMs: nowMs } };
  }
  if (nowMs - distributedAtMs < settleMs) return undefined;
  // With the previous authority dropped first, the bundle would never contain three of them; none that is trusted is dropped early.
  return next === undefined
    ? { kind: 'write-authority', authority: { signing } }
    : {
        kind: 'write-authority',
        authority: { signing: next, previous: signing.certificate },
      };
}

/** Whether the role's Secret has the bundle, and a certificate of the signing authority that need not be renewed yet. */
function isCurrent(
  { driverName, roleSecrets }: Certificates,
  authority: AuthorityState,
  role: Role,
  nowMs: number,
): boolean {
  const { bundle, pair } = roleSecrets[role];
  if (pair === undefined || bundle !== bundleOf(authority)) return false;
  const leaf = new X509Certificate(pair.certificate);
  const issuer = new X509Certificate(authority.signing.certificate);
  return (
    leaf.checkIssued(issuer) &&
    leaf.verify(issuer.publicKey) &&
    findPeerProblem(leaf, { driverName, role }) === undefined &&
    Date.parse(leaf.validFrom) <= nowMs &&
    // A new certificate of an authority that ends soon would end with it, too.
    (leftMs(pair, nowMs) > renewBeforeMs || Date.parse(leaf.validTo) >= Date.parse(issuer.validTo))
  );
}

function leftMs({ certificate }: KeyPair, nowMs: number): number {
  return Date.parse(new X509Certificate(certificate).validTo) - nowMs;
}
