import test from 'ava';
import fc from 'fast-check';
import {
  aliveFrame,
  encodeFrame,
  encodeHead,
  type Frame,
  FrameDecoder,
} from '../../../../src/rpc/agent/frames.ts';
import { codeOf } from '../../../helpers/csi-server.ts';

const maxBodyBytes = 70_000;
const kinds = ['request', 'alive', 'data', 'end', 'failure'] as const;

const frames = fc.array(
  fc.record({
    kind: fc.constantFrom(...kinds),
    value: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
    digest: fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes)),
    // Both sizes that get memory of their own, and larger ones.
    body: fc
      .tuple(fc.constantFrom(0, 1, 5_000, 65_536, 65_537, maxBodyBytes), fc.nat(255))
      .map(([length, fill]) => Buffer.alloc(length, fill)),
  }),
  { maxLength: 6 },
);

test('frames are found however their bytes arrive', (t) => {
  fc.assert(
    fc.property(frames, fc.integer({ min: 1, max: 70_000 }), (sent, chunkBytes) => {
      const decoder = new FrameDecoder({ maxBodyBytes });
      const bytes = Buffer.concat(sent.map(encodeFrame));
      const received: Frame[] = [];
      for (let at = 0; at < bytes.length; at += chunkBytes)
        received.push(...decoder.decode(bytes.subarray(at, at + chunkBytes)));
      t.is(received.length, sent.length);
      t.true(Buffer.concat(received.map(encodeFrame)).equals(bytes));
    }),
    { numRuns: 200 },
  );
});

test('the memory of a body is used again only when it was released', (t) => {
  const decoder = new FrameDecoder({ maxBodyBytes });
  const receive = (fill: number, length = maxBodyBytes): Frame | undefined =>
    decoder.decode(encodeFrame({ kind: 'data', body: Buffer.alloc(length, fill) }))[0];
  const [first, second] = [receive(1), receive(2)];
  if (first === undefined || second === undefined) throw new Error('no frames');
  t.true(first.body.equals(Buffer.alloc(maxBodyBytes, 1)));
  t.true(second.body.equals(Buffer.alloc(maxBodyBytes, 2)));
  decoder.release(first);
  // A shorter body does not shorten the memory.
  const third = receive(3, 66_000);
  t.is(third?.body.buffer, first.body.buffer);
  decoder.release(third ?? first);
  t.is(receive(4)?.body.buffer, first.body.buffer);
  t.true(second.body.equals(Buffer.alloc(maxBodyBytes, 2)));
});

const wrong: Readonly<Record<string, Buffer>> = {
  'an unknown kind': Buffer.alloc(48, 9),
  'another protocol': Buffer.from('GET / HTTP/1.1\r\nhost: x\r\n\r\n'.padEnd(48)),
  'a body that is too long': encodeHead({ kind: 'data', body: Buffer.alloc(maxBodyBytes + 1) }),
};
for (const [what, bytes] of Object.entries(wrong)) {
  test(`what is no frame is refused: ${what}`, async (t) => {
    const decoder = new FrameDecoder({ maxBodyBytes });
    t.is(decoder.decode(aliveFrame).length, 1);
    t.is(await codeOf(Promise.resolve().then(() => decoder.decode(bytes))), 'INTERNAL');
  });
}
