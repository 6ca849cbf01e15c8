/**
 * A program that makes one call to an agent, from the network in which it runs, and prints the ticket or the code of its end:
 *
 *   ask-agent.js TLS_DIR ADDRESS open KIND ID COPY_NAME PEER_ADDRESS
 *   ask-agent.js TLS_DIR ADDRESS describe KIND ID COPY_NAME TICKET
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createSecureContext } from 'node:tls';
import { Client as Channel } from '@grpc/grpc-js';
import { makeClientOn } from '../../src/csi/client.ts';
import { agentChannelCredentials, agentChannelOptions } from '../../src/tls/agent-channel.ts';
import { tlsFiles } from '../../src/tls/credentials.ts';
import { endOf } from './controller.ts';

const [tlsDir = '', address = '', what, kind = '', id = '', copy_name = '', last = ''] =
  process.argv.slice(2);
const read = (name: string): Promise<Buffer> => readFile(join(tlsDir, name));
const context = createSecureContext({
  ca: await read(tlsFiles.authorities),
  cert: await read(tlsFiles.certificate),
  key: await read(tlsFiles.key),
  minVersion: 'TLSv1.3',
});
const credentials = agentChannelCredentials(context, 'loopcsi.io');
const channel = new Channel(address, credentials, agentChannelOptions);
const source = { kind, id, copy_name };
const limit = { timeoutMs: 20_000 };
if (what === 'open') {
  const agent = makeClientOn('loopcsi.agent.v1.Agent', channel);
  const { ticket } = await agent.OpenSource({ source, peer_addresses: [last] }, limit);
  process.stdout.write(ticket);
} else {
  const sources = makeClientOn('loopcsi.agent.v1.Sources', channel);
  process.stdout.write((await endOf(sources.Describe({ ticket: last, source }, limit))).code);
}
channel.close();
