import { PassThrough } from 'node:stream';
import { Server, status } from '@grpc/grpc-js';
import test, { type ExecutionContext } from 'ava';
import { runCommandLine } from '../../../src/cli/program.ts';
import { serviceDefinition } from '../../../src/csi/codec.ts';
import { listenOnOwnSocket } from '../../helpers/listen.ts';

/** A driver in which no volume exists, and an import of 'imported' runs. Returns its socket and the ids that were deleted. */
async function serveImporting(t: ExecutionContext) {
  const deleted: string[] = [];
  const server = new Server();
  server.addService(serviceDefinition('csi.v1.Identity'), {
    GetPluginInfo: (_call: unknown, callback: (error: null, response: object) => void) => {
      callback(null, { name: 'loopcsi.io', vendor_version: '1.2.3', manifest: {} });
    },
  });
  server.addService(serviceDefinition('loopcsi.v1.Admin'), {
    GetVolume: (_call: unknown, callback: (error: object) => void) => {
      callback({ code: status.NOT_FOUND, details: 'there is no such volume' });
    },
    GetProgress: (
      { request }: { request: { volume_name: string } },
      callback: (error: null, response: object) => void,
    ) => {
      const volume_id = request.volume_name === 'imported' ? 'imported.1a2b3c4d' : '';
      callback(null, { done_bytes: 0n, total_bytes: 0n, volume_id });
    },
  });
  server.addService(serviceDefinition('csi.v1.Controller'), {
    DeleteVolume: (
      { request }: { request: { volume_id: string } },
      callback: (error: object | null, response?: object) => void,
    ) => {
      deleted.push(request.volume_id);
      // The first call cancels the import, the second one finds no volume.
      if (deleted.length === 1) callback({ code: status.ABORTED, details: 'in progress' });
      else callback(null, {});
    },
  });
  return { socket: await listenOnOwnSocket(t, server), deleted };
}

async function deleteVolume(socket: string, name: string) {
  const streams = {
    stdin: new PassThrough(),
    stdout: new PassThrough(),
    stderr: new PassThrough(),
  };
  const argv = ['volume', 'delete', name, '--yes', '--endpoint', socket];
  const exitCode = await runCommandLine(argv, { streams, environment: {}, version: '1.2.3' });
  const textOf = (stream: PassThrough): string => String(stream.read() ?? '');
  return { exitCode, stdout: textOf(streams.stdout), stderr: textOf(streams.stderr) };
}

test('volume delete cancels an import of that name', async (t) => {
  const { socket, deleted } = await serveImporting(t);
  const { exitCode, stdout, stderr } = await deleteVolume(socket, 'imported');
  t.is(exitCode, 0, stderr);
  t.is(stdout, "The creation of volume 'imported' was cancelled.\n");
  t.deepEqual(deleted, ['imported.1a2b3c4d', 'imported.1a2b3c4d']);
});

test('volume delete of a name that nothing uses is an error', async (t) => {
  const { socket, deleted } = await serveImporting(t);
  const { exitCode, stderr } = await deleteVolume(socket, 'unknown');
  t.is(exitCode, 1);
  t.regex(stderr, /there is no such volume/);
  t.deepEqual(deleted, []);
});
