import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { connect as connectOverTls } from 'node:tls';
import { status } from '@grpc/grpc-js';
import { makeClient } from '../../../src/csi/client.ts';
import type { KeyPair } from '../../../src/tls/authority.ts';
import { makeRandom } from '../../crash/random.ts';
import { makeCertificates, writeTlsFiles } from '../../helpers/certificates.ts';
import { portOf } from '../../helpers/driver.ts';
import { onNode } from '../../helpers/on-node.ts';
import { type Fixture, makeFixture } from './fixture.ts';

const seed = Number(process.env['LOOPCSI_FUZZ_SEED'] ?? Math.floor(Date.now() / 86_400_000));
const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');
const mebibyte = 2 ** 20;

/** Connects to one of the addresses of a driver. */
type Open = () => Socket;

/** Sends the bytes and waits until the driver closes the connection, or for a limited time. */
async function send(open: Open, bytes: Buffer, boundMs = 300): Promise<void> {
  const socket = open();
  socket.on('error', () => undefined);
  socket.resume();
  const closed = once(socket, 'close').catch(() => undefined);
  socket.end(bytes);
  await Promise.race([closed, delay(boundMs)]);
  socket.destroy();
}

/** A TLS directory for the agent, and what a controller presents to it. */
async function makeTlsDir() {
  const { authority, agent, controller } = await makeCertificates();
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-hostile-tls-'));
  await writeTlsFiles(directory, agent, authority.certificate);
  return { directory, controller };
}

function connectTls(port: number, { certificate: cert, key }: KeyPair): Socket {
  const options = { cert, key, rejectUnauthorized: false, ALPNProtocols: ['h2'] };
  return connectOverTls({ host: '127.0.0.1', port, ...options });
}

function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

async function connectMany(path: string, count: number): Promise<readonly Socket[]> {
  const sockets: Socket[] = [];
  for (let index = 0; index < count; index += 1) {
    const socket = connect(path);
    socket.on('error', () => undefined);
    sockets.push(socket);
    // The backlog is limited: further connections are refused, which is an expected outcome.
    if (index % 50 === 49) await delay(5);
  }
  return sockets;
}

async function requireSmall(fixture: Fixture): Promise<void> {
  const { residentBytes } = await fixture.footprint();
  if (residentBytes > 400 * mebibyte)
    throw new Error(`the driver has grown to ${residentBytes} bytes`);
}

onNode(
  'random, truncated and oversized frames on the sockets and the network address do not stop the driver',
  async (t) => {
    t.timeout(5 * 60_000);
    t.log(`seed ${seed}`);
    const random = makeRandom(seed);
    const tls = await makeTlsDir();
    const fixture = await makeFixture([
      '--agent-address=127.0.0.1:0',
      `--tls-dir=${tls.directory}`,
    ]);
    try {
      const agent = { port: await portOf(fixture.driver, 'agentPort'), controller: tls.controller };
      const noise = (length: number) =>
        Buffer.from(Array.from({ length }, () => random.below(256)));
      const addresses: readonly Open[] = [
        () => connect(fixture.driver.endpoint),
        () => connect(fixture.dockerSocket),
        () => connect(agent.port, '127.0.0.1'),
        // As a controller, whose certificate is accepted.
        () => connectTls(agent.port, agent.controller),
      ];
      for (const open of addresses) {
        for (let round = 0; round < 60; round += 1) {
          const settings = frame(4, 0, 0, Buffer.alloc(0));
          const some = frame(
            random.below(12),
            random.below(256),
            random.below(6),
            noise(random.below(200)),
          );
          const bytes = random.pick([
            noise(1 + random.below(500)),
            Buffer.concat([preface, noise(random.below(300))]),
            Buffer.concat([preface, settings, some]),
            Buffer.concat([preface, settings, some]).subarray(0, 24 + random.below(30)),
            // A frame that announces 16 MiB - 1 bytes and ends early.
            Buffer.concat([preface, settings, Buffer.from([255, 255, 255, 0, 0, 0, 0, 0, 1])]),
            // Header blocks that never end, and a flood of empty frames.
            Buffer.concat([
              preface,
              settings,
              frame(1, 0, 1, noise(64)),
              ...Array.from({ length: 2_000 }, () => frame(9, 0, 1, Buffer.alloc(0))),
            ]),
            Buffer.concat([
              preface,
              ...Array.from({ length: 5_000 }, () => frame(6, 0, 0, Buffer.alloc(8))),
            ]),
            Buffer.from(
              `POST /VolumeDriver.Create HTTP/1.1\r\ncontent-length: ${random.pick(['-1', '99999999999', 'x'])}\r\n\r\n{`,
            ),
            Buffer.from(`GET /${'a'.repeat(100_000)} HTTP/1.1\r\n\r\n`),
          ]);
          await send(open, bytes);
        }
        await fixture.requireAlive();
        await requireSmall(fixture);
      }
      t.false((await fixture.driver.log()).includes('"level":"fatal"'));
    } finally {
      await fixture.end();
      await rm(tls.directory, { recursive: true });
    }
  },
);

onNode('a message above the limit is refused, and the connection stays open', async (t) => {
  const fixture = await makeFixture();
  const client = makeClient('csi.v1.Controller', `unix://${fixture.driver.endpoint}`);
  try {
    await t.throwsAsync(
      client.CreateVolume({ name: 'x'.repeat(3 * mebibyte) }, { timeoutMs: 30_000 }),
      {
        code: status.RESOURCE_EXHAUSTED,
      },
    );
    t.deepEqual((await client.ListVolumes({}, { timeoutMs: 30_000 })).entries, []);
    await requireSmall(fixture);
  } finally {
    client.close();
    await fixture.end();
  }
});

onNode(
  'silent clients, and clients that send one byte per second, do not block others',
  async (t) => {
    t.timeout(2 * 60_000);
    const fixture = await makeFixture();
    try {
      for (const path of [fixture.driver.endpoint, fixture.dockerSocket]) {
        const slow = await connectMany(path, 60);
        let gone = 0;
        for (const socket of slow) socket.once('close', () => (gone += 1));
        const bytes =
          path === fixture.dockerSocket ? Buffer.from('POST / HTTP/1.1\r\nhost: ') : preface;
        // The driver closes them after ten seconds, and Docker's front checks every five; these requests never end.
        const last = bytes.length - 1;
        for (let at = 0; at < 30 && gone < slow.length; at += 1) {
          if (at >= last) {
            await delay(1_000);
            continue;
          }
          for (const socket of slow)
            if (!socket.destroyed) socket.write(bytes.subarray(at, at + 1));
          await fixture.requireAlive();
          await delay(1_000);
        }
        t.is(gone, slow.length, 'connections without a complete request are closed');
        for (const socket of slow) socket.destroy();
      }
    } finally {
      await fixture.end();
    }
  },
);

onNode('thousands of connections are limited, and leave no descriptors behind', async (t) => {
  t.timeout(3 * 60_000);
  const fixture = await makeFixture();
  try {
    await fixture.requireAlive();
    const before = await fixture.footprint();
    for (const path of [fixture.driver.endpoint, fixture.dockerSocket]) {
      const many = await connectMany(path, 3_000);
      await delay(500);
      t.true(
        (await fixture.footprint()).descriptors < before.descriptors + 400,
        'the number of descriptors is limited',
      );
      for (const socket of many) socket.destroy();
      await fixture.requireAlive();
    }
    for (const giveUpAt = Date.now() + 30_000; Date.now() < giveUpAt; await delay(200)) {
      if ((await fixture.footprint()).descriptors <= before.descriptors + 10) break;
    }
    t.true((await fixture.footprint()).descriptors <= before.descriptors + 10, 'all are closed');
    await requireSmall(fixture);
  } finally {
    await fixture.end();
  }
});
