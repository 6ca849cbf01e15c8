/**
 * The Secret with the authority: its key, and while the authority is being replaced also the next or the previous one. The bundle
 * of trusted authorities follows from it.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import * as v from 'valibot';
import type { KeyPair } from '../../tls/authority.ts';
import { decodeObject, type KubeObject } from '../kube/client.ts';

export interface AuthorityState {
  /** Signs certificates. */
  readonly signing: KeyPair;
  /** Will sign, once everyone trusts it. */
  readonly next?: KeyPair | undefined;
  /** Certificate of the authority that signed before. */
  readonly previous?: string | undefined;
  /** When both roles' Secrets first had the current bundle, in milliseconds of the epoch. */
  readonly distributedAtMs?: number | undefined;
}

const distributedAnnotation = 'loopcsi.io/distributed-at';

const secretSchema = v.looseObject({ data: v.optional(v.record(v.string(), v.string()), {}) });

/** The values of a Secret as texts. */
export function textsOf(secret: KubeObject): Readonly<Record<string, string>> {
  const { data } = v.parse(secretSchema, secret);
  return Object.fromEntries(
    Object.entries(data).map(([key, value]) => [key, Buffer.from(value, 'base64').toString()]),
  );
}

/** The Secret with other values. Its metadata, and with that its version, stay. */
export function withTexts(
  secret: KubeObject,
  texts: Readonly<Record<string, string>>,
  annotations: Readonly<Record<string, string | undefined>> = {},
): KubeObject {
  const all = Object.entries({ ...secret.metadata.annotations, ...annotations });
  const kept = all.filter((entry): entry is [string, string] => entry[1] !== undefined);
  const data = Object.fromEntries(
    Object.entries(texts).map(([key, text]) => [key, Buffer.from(text).toString('base64')]),
  );
  const metadata = { ...secret.metadata, annotations: Object.fromEntries(kept) };
  return decodeObject({ ...secret, metadata, data });
}

/** undefined if the Secret has no usable authority: it is new, or was emptied, or its key does not fit. */
export function decodeAuthority(secret: KubeObject): AuthorityState | undefined {
  const texts = textsOf(secret);
  const signing = pairIn(texts, 'tls');
  if (signing === undefined) return undefined;
  const distributedAtMs = Date.parse(secret.metadata.annotations?.[distributedAnnotation] ?? '');
  const previous = texts['previous.crt'];
  return {
    signing,
    next: pairIn(texts, 'next'),
    previous: previous !== undefined && isCertificate(previous) ? previous : undefined,
    distributedAtMs: Number.isNaN(distributedAtMs) ? undefined : distributedAtMs,
  };
}

export function encodeAuthority(secret: KubeObject, state: AuthorityState): KubeObject {
  const { signing, next, previous, distributedAtMs } = state;
  const texts = {
    'ca.crt': bundleOf(state),
    'tls.crt': signing.certificate,
    'tls.key': signing.key,
    ...(next === undefined ? {} : { 'next.crt': next.certificate, 'next.key': next.key }),
    ...(previous === undefined ? {} : { 'previous.crt': previous }),
  };
  const distributed =
    distributedAtMs === undefined ? undefined : new Date(distributedAtMs).toISOString();
  return withTexts(secret, texts, { [distributedAnnotation]: distributed });
}

/** The authorities that everyone has to trust, as PEM. */
export function bundleOf({ signing, next, previous }: AuthorityState): string {
  return [signing.certificate, next?.certificate, previous]
    .flatMap((certificate) => (certificate === undefined ? [] : [`${certificate.trim()}\n`]))
    .join('');
}

/** Certificate and key with this prefix; undefined if one is missing or they do not belong together. */
export function pairIn(
  texts: Readonly<Record<string, string>>,
  prefix: string,
): KeyPair | undefined {
  const { [`${prefix}.crt`]: certificate, [`${prefix}.key`]: key } = texts;
  if (certificate === undefined || key === undefined) return undefined;
  try {
    const fits = new X509Certificate(certificate).checkPrivateKey(createPrivateKey(key));
    return fits ? { certificate, key } : undefined;
  } catch {
    return undefined;
  }
}

function isCertificate(text: string): boolean {
  try {
    return new X509Certificate(text).ca;
  } catch {
    return false;
  }
}
