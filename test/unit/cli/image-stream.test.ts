import { createHash } from 'node:crypto';
import test from 'ava';
import { execa } from 'execa';
import { dataPieces, encodeFacts, openStream, withZeros } from '../../../src/cli/image-stream.ts';
import { progressLine, withProgress } from '../../../src/cli/progress.ts';
import { ZstdError, zstd } from '../../../src/host/programs/zstd.ts';
import { GiB, MiB } from '../../../src/units.ts';

async function* source(...chunks: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  for (const chunk of chunks) yield chunk;
}

async function collect(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return Buffer.concat(all);
}

const facts = { name: 'v', sizeBytes: 2n ** 60n, isBlock: true, sectorSize: 512 };
const image = Buffer.alloc(3 * 1024 * 1024);
image.fill(7, 1_000_000, 1_000_100);
image.fill(8, image.length - 1);

test('the facts of an export come back, in however small chunks they arrive', async (t) => {
  const text = encodeFacts(facts);
  const bytes = [...Buffer.concat([text, Buffer.from('rest')])].map((byte) => Buffer.from([byte]));
  const opened = await openStream(source(...bytes));
  t.deepEqual(opened.facts, facts);
  t.true(opened.isCompressed);
  t.is((await collect(opened.rest)).toString(), 'rest');
});

test('raw and zstd streams are told apart, and nothing of them is lost', async (t) => {
  const raw = await openStream(source(Buffer.from('abc')));
  t.like(raw, { facts: undefined, isCompressed: false });
  t.is((await collect(raw.rest)).toString(), 'abc');
  const compressed = await collect(zstd('compress', source(image)));
  const opened = await openStream(source(compressed));
  t.like(opened, { facts: undefined, isCompressed: true });
  t.true((await collect(opened.rest)).equals(compressed));
});

test('facts of another version are refused', async (t) => {
  const text = encodeFacts(facts);
  const later = Buffer.from(
    text.toString('latin1').replace('"loopcsi":1', '"loopcsi":2'),
    'latin1',
  );
  await t.throwsAsync(openStream(source(later)), { message: /cannot read/ });
  const huge = Buffer.from(text);
  huge.writeUInt32LE(2 ** 31, 4);
  await t.throwsAsync(openStream(source(huge)), { message: /cannot read/ });
});

test('pieces without data are omitted, and the zeros between them come back', async (t) => {
  let seen = 0;
  const pieces: { offset: bigint; data: Buffer }[] = [];
  const chunks = [image.subarray(0, 999_999), image.subarray(999_999)];
  for await (const piece of dataPieces(source(...chunks), (bytes) => (seen += bytes.length)))
    pieces.push(piece);
  t.is(seen, image.length);
  t.is(pieces.length, 2);
  const sent = async function* () {
    yield* pieces;
  };
  t.true((await collect(withZeros(sent(), BigInt(image.length)))).equals(image));
});

test('a run of zeros is not silent: empty pieces say that the stream goes on', async (t) => {
  const pieces: { offset: bigint; data: Buffer }[] = [];
  const zeros = Buffer.alloc(8 * 1024 * 1024);
  for await (const piece of dataPieces(source(zeros), () => undefined, -1)) pieces.push(piece);
  t.true(pieces.length > 1);
  t.true(pieces.every(({ data }) => data.length === 0));
  t.is(pieces.at(-1)?.offset, BigInt(zeros.length));
  const sent = async function* () {
    yield* pieces;
  };
  t.true((await collect(withZeros(sent(), BigInt(zeros.length)))).equals(zeros));
});

for (const usesProgram of [false, true]) {
  test(`zstd there and back, ${usesProgram ? 'with the program' : 'with what Node has'}`, async (t) => {
    const compressed = await collect(zstd('compress', source(image), { usesProgram }));
    t.true(compressed.length < image.length / 100);
    const back = await collect(zstd('decompress', source(compressed), { usesProgram }));
    t.true(back.equals(image));
  });

  test(`damaged zstd data is an error, ${usesProgram ? 'with the program' : 'with what Node has'}`, async (t) => {
    const compressed = await collect(zstd('compress', source(image), { usesProgram }));
    for (const damaged of [compressed.subarray(0, 50), Buffer.from('nothing of the kind')]) {
      const work = collect(zstd('decompress', source(damaged), { usesProgram }));
      await t.throwsAsync(work, { instanceOf: ZstdError });
    }
  });

  test(`a failure of the source is not hidden, ${usesProgram ? 'with the program' : 'with what Node has'}`, async (t) => {
    const failing = async function* (): AsyncGenerator<Uint8Array> {
      yield image;
      throw new Error('the driver has gone');
    };
    await t.throwsAsync(collect(zstd('compress', failing(), { usesProgram })), {
      message: 'the driver has gone',
    });
  });
}

test('zstd itself reads an export and ignores its facts', async (t) => {
  const stream = Buffer.concat([
    encodeFacts(facts),
    await collect(zstd('compress', source(image))),
  ]);
  const { stdout } = await execa('zstd', ['--decompress', '--stdout', '--quiet'], {
    input: stream,
    encoding: 'buffer',
  });
  const hash = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
  t.is(hash(stdout), hash(image));
});

test('a progress line with a rate shows the time left', (t) => {
  const progress = { doneBytes: GiB, totalBytes: 4n * GiB };
  const line = (rate: number) => progressLine('copying', progress, 10_000, rate);
  t.regex(line(Number(100n * MiB)), /25 %, 1Gi of 4Gi, 100Mi\/s, 31 s left$/);
  t.regex(line(Number(MiB)), /1Mi\/s, 52 min left$/);
  t.regex(line(Number(MiB) / 8), /128Ki\/s, 6 h 50 min left$/);
  t.regex(line(0), /1Gi of 4Gi, 10 s$/);
});

test('without a terminal no progress line is drawn', async (t) => {
  const terminal = { progressStream: undefined } as unknown as Parameters<typeof withProgress>[0];
  t.is(
    await withProgress(terminal, 'copying', async (report) => {
      report({ doneBytes: 1n, totalBytes: 2n });
      return 7;
    }),
    7,
  );
});
