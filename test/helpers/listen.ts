import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Server, ServerCredentials } from '@grpc/grpc-js';
import type { ExecutionContext } from 'ava';

/** Lets a gRPC server listen on a socket of its own until the test ends. Returns the path of the socket. */
export async function listenOnOwnSocket(t: ExecutionContext, server: Server): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-grpc-'));
  t.teardown(async () => {
    server.forceShutdown();
    await rm(directory, { recursive: true });
  });
  const socket = join(directory, 'csi.sock');
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(`unix://${socket}`, ServerCredentials.createInsecure(), (error) => {
      if (error === null) resolve();
      else reject(error);
    });
  });
  return socket;
}
