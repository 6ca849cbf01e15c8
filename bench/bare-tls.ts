/**
 * The baseline for copies between nodes: one process sends a file over mutual TLS 1.3, another one writes it to the disk. Nothing is checked,
 * recorded or resumed. `bare-tls send|receive PORT FILE TLS_DIR`; `receive` prints the milliseconds from the connection to the end of fsync.
 */
import { createReadStream, readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { connect, createServer } from 'node:tls';
import { tlsFiles } from '../src/tls/credentials.ts';

const [mode, port, file = '', directory = ''] = process.argv.slice(2);
const read = (name: string): string => readFileSync(join(directory, name), 'utf8');
const options = {
  ca: read(tlsFiles.authorities),
  cert: read(tlsFiles.certificate),
  key: read(tlsFiles.key),
  minVersion: 'TLSv1.3',
} as const;
const chunkBytes = 1024 * 1024;

if (mode === 'send') {
  const server = createServer({ ...options, requestCert: true }, (socket) => {
    void pipeline(createReadStream(file, { highWaterMark: chunkBytes }), socket).then(() => {
      server.close();
    });
  });
  server.listen(Number(port), '127.0.0.1', () => {
    console.log('listening');
  });
} else {
  const startMs = performance.now();
  const socket = connect({
    ...options,
    host: '127.0.0.1',
    port: Number(port),
    checkServerIdentity: () => undefined,
  });
  const target = await open(file, 'w');
  for await (const chunk of socket) await target.write(chunk as Buffer);
  await target.sync();
  await target.close();
  console.log(performance.now() - startMs);
}
