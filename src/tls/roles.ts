/**
 * Roles of certificates. A certificate has a role if its subject alternative names contain the URI
 * `loopcsi://DRIVER_NAME/controller` or `loopcsi://DRIVER_NAME/agent`. Only the role decides what a peer may do: the names of hosts
 * and the subject are not read.
 */
import type { X509Certificate } from 'node:crypto';

/** `controller` is `loopcsi controller`; `agent` is the driver of a node. */
export const roles = ['controller', 'agent'] as const;
export type Role = (typeof roles)[number];

/** Why a certificate has no role here. Used as the label of a metric. */
export type RoleProblem = 'no-role' | 'other-driver' | 'several-roles' | 'ca-certificate';

export type FoundRole =
  | { readonly role: Role; readonly problem?: undefined; readonly text?: undefined }
  | { readonly role?: undefined; readonly problem: RoleProblem; readonly text: string };

const scheme = 'loopcsi://';

/** The URI that gives a certificate its role. */
export function roleUri(driverName: string, role: Role): string {
  return `${scheme}${driverName}/${role}`;
}

/** Finds the role of a certificate whose chain was verified. */
export function roleOf(
  certificate: Pick<X509Certificate, 'subjectAltName' | 'ca'>,
  driverName: string,
): FoundRole {
  // The key of an authority signs certificates. As a peer it could claim any role.
  if (certificate.ca)
    return { problem: 'ca-certificate', text: 'the certificate is one of an authority' };
  const uris = urisIn(certificate.subjectAltName ?? '').filter((uri) =>
    uri.toLowerCase().startsWith(scheme),
  );
  const [uri, ...others] = uris;
  if (uri === undefined)
    return { problem: 'no-role', text: `the certificate has no URI ${scheme}${driverName}/ROLE` };
  if (others.length > 0)
    return {
      problem: 'several-roles',
      text: `the certificate has ${uris.length} roles: ${uris.join(', ')}`,
    };
  const role = roles.find((one) => roleUri(driverName, one) === uri);
  if (role !== undefined) return { role };
  const isOurs = uri.startsWith(`${scheme}${driverName}/`);
  return isOurs
    ? { problem: 'no-role', text: `the certificate has the unknown role ${uri}` }
    : { problem: 'other-driver', text: `the certificate is for ${uri}, not for ${driverName}` };
}

/**
 * Why the peer of a verified connection is not the expected one; undefined if it is. For `checkServerIdentity` of node:tls, which
 * expects an Error.
 */
export function findPeerProblem(
  certificate: Pick<X509Certificate, 'subjectAltName' | 'ca'>,
  expected: { readonly driverName: string; readonly role: Role },
): Error | undefined {
  const found = roleOf(certificate, expected.driverName);
  if (found.role === expected.role) return undefined;
  return new Error(
    found.role === undefined
      ? found.text
      : `the certificate has role ${found.role}, but ${expected.role} is expected`,
  );
}

/** The driver of a certificate with any role; undefined if it has none. */
export function driverNameIn({
  subjectAltName,
}: Pick<X509Certificate, 'subjectAltName'>): string | undefined {
  const uri = urisIn(subjectAltName ?? '').find((one) => one.startsWith(scheme));
  return uri?.slice(scheme.length).split('/', 1)[0];
}

/**
 * One name of Node's text of a subject alternative name: `URI:loopcsi://a/agent, DNS:"a, b"`. Node quotes names that contain
 * separators as JSON, so a comma within a name cannot begin another one.
 */
const alternativeName = /(?:^|, )([^:,]+):("(?:[^"\\]|\\.)*"|[^,]*)/gy;

function urisIn(subjectAltName: string): readonly string[] {
  return [...subjectAltName.matchAll(alternativeName)].flatMap(([, type, name = '']) =>
    type === 'URI' ? [name] : [],
  );
}
