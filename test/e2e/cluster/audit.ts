/** The audit log of the API server: every request of the release's service accounts, so that a test can compare their rights with it. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import type { Layout } from './layout.ts';

export const auditPolicy = (layout: Layout): string => join(layout.settings, 'audit.json');
export const auditLog = (layout: Layout): string => join(layout.logs, 'audit.log');

export async function writeAuditPolicy(layout: Layout): Promise<void> {
  const policy = {
    apiVersion: 'audit.k8s.io/v1',
    kind: 'Policy',
    omitStages: ['RequestReceived'],
    rules: [
      { level: 'Metadata', userGroups: ['system:serviceaccounts:loopcsi'] },
      { level: 'None' },
    ],
  };
  await writeFile(auditPolicy(layout), JSON.stringify(policy));
}

const eventSchema = v.object({
  verb: v.string(),
  requestReceivedTimestamp: v.string(),
  user: v.object({ username: v.string() }),
  objectRef: v.optional(
    v.object({
      apiGroup: v.optional(v.string(), ''),
      resource: v.optional(v.string(), ''),
      subresource: v.optional(v.string()),
      name: v.optional(v.string(), ''),
    }),
  ),
  responseStatus: v.optional(v.object({ code: v.optional(v.number(), 0) })),
});
export type AuditEvent = v.InferOutput<typeof eventSchema>;

/** The requests of a service account of the release so far. */
export async function requestsOf(layout: Layout, account: string): Promise<readonly AuditEvent[]> {
  const text = await readFile(auditLog(layout), 'utf8');
  // The last line may be incomplete.
  const lines = text.slice(0, text.lastIndexOf('\n') + 1).split('\n');
  return lines
    .filter((line) => line !== '')
    .map((line) => v.parse(eventSchema, JSON.parse(line)))
    .filter(({ user }) => user.username.endsWith(`:${account}`));
}
