import { PassThrough } from 'node:stream';
import test from 'ava';
import fc from 'fast-check';
import {
  count,
  formatFields,
  formatPromisedSize,
  formatSize,
  toJson,
  toNames,
  toYaml,
} from '../../../src/cli/output.ts';
import { progressLine, withProgress } from '../../../src/cli/progress.ts';
import { formatTable } from '../../../src/cli/table.ts';
import { Terminal } from '../../../src/cli/terminal.ts';
import { expansionMessage } from '../../../src/cli/volume-format.ts';
import { GiB, KiB, MiB, parseBytes, TiB } from '../../../src/units.ts';

function terminalFor(options: { isTTY: boolean; NO_COLOR?: string; columns?: number }): Terminal {
  const stream = (): PassThrough & { isTTY: boolean; columns: number } =>
    Object.assign(new PassThrough(), { isTTY: options.isTTY, columns: options.columns ?? 80 });
  return new Terminal(
    { stdin: stream(), stdout: stream(), stderr: stream() },
    options.NO_COLOR === undefined ? {} : { NO_COLOR: options.NO_COLOR },
  );
}

const sizes = [
  { bytes: 0n, text: '0' },
  { bytes: 512n, text: '512' },
  { bytes: 10n * KiB, text: '10Ki' },
  { bytes: 1536n * MiB, text: '1.5Gi' },
  { bytes: 10n * GiB, text: '10Gi' },
  { bytes: 2n * TiB, text: '2Ti' },
] as const;
for (const { bytes, text } of sizes) {
  test(`formatSize: ${bytes} bytes are ${text}`, (t) => {
    t.is(formatSize(bytes), text);
  });
}

test('formatSize is the inverse of parseBytes for whole sizes', (t) => {
  const units = fc.constantFrom(1n, KiB, MiB, GiB, TiB);
  fc.assert(
    fc.property(fc.bigInt(1n, 1023n), units, (number, unit) => {
      t.is(parseBytes(formatSize(number * unit)), number * unit);
    }),
  );
});

for (const { bytes, text } of [
  { bytes: 0n, text: '0' },
  { bytes: 1500n * MiB, text: '1500Mi' },
  { bytes: 1536n * MiB, text: '1536Mi' },
  { bytes: 10n * GiB, text: '10Gi' },
  { bytes: 1024n * GiB, text: '1Ti' },
  { bytes: 5n * GiB + 1n, text: '5368709121' },
] as const) {
  test(`formatPromisedSize: ${bytes} bytes are ${text}`, (t) => {
    t.is(formatPromisedSize(bytes), text);
  });
}

test('formatPromisedSize is the inverse of parseBytes', (t) => {
  fc.assert(
    fc.property(fc.bigInt(0n, 2n ** 62n), (bytes) => {
      t.is(parseBytes(formatPromisedSize(bytes)), bytes);
    }),
  );
});

interface Row {
  readonly name: string;
  readonly size: string;
}
const rows: readonly Row[] = [
  { name: 'a', size: '10Gi' },
  { name: 'longer', size: '' },
];
const columns = [
  { title: 'NAME', text: ({ name }: Row) => name },
  { title: 'THE SIZE', align: 'right', text: ({ size }: Row) => size },
] as const;

test('in a pipe columns are aligned, titles contain no spaces, and empty cells are -', (t) => {
  t.is(
    formatTable(terminalFor({ isTTY: false }), rows, columns),
    ['NAME    THE_SIZE', 'a           10Gi', 'longer         -'].join('\n'),
  );
});

test('on a terminal titles are bold, except with NO_COLOR', (t) => {
  const table = formatTable(terminalFor({ isTTY: true }), rows, columns);
  t.true(table.startsWith('\u001b[1mNAME '));
  const plain = formatTable(terminalFor({ isTTY: true, NO_COLOR: '1' }), rows, columns);
  t.deepEqual(
    plain.split('\n').map((line) => line.trim().split(/ {2,}/)),
    [['NAME', 'THE SIZE'], ['a', '10Gi'], ['longer']],
  );
});

test('wide characters count for two columns, and control characters are escaped', (t) => {
  const text = formatTable(
    terminalFor({ isTTY: false }),
    [
      { name: '数据', size: '1Gi' },
      { name: 'a\n\u001b[2J', size: '2Gi' },
    ],
    columns,
  );
  t.deepEqual(text.split('\n'), [
    'NAME          THE_SIZE',
    '数据               1Gi',
    'a\\n\\u001b[2J       2Gi',
  ]);
});

test('on a terminal the columns that shrink are truncated to its width, the widest first', (t) => {
  const shrinking = [
    { title: 'NAME', text: ({ name }: Row) => name },
    { title: 'SIZE', text: ({ size }: Row) => size, shrinks: true },
    { title: 'AGAIN', text: ({ size }: Row) => size, shrinks: true },
  ] as const;
  const table = (size: string, name = 'n'): readonly string[] =>
    formatTable(terminalFor({ isTTY: true, NO_COLOR: '1' }), [{ name, size }], shrinking).split(
      '\n',
    );
  const [, wide = ''] = table('/x'.repeat(40));
  t.is(wide.length, 80);
  t.regex(wide, /^n {5}(?:\/x)+\/?… {2}(?:\/x)+\/?…$/);
  const [, short = ''] = table('/x');
  t.is(short, 'n     /x    /x');
  const [, chinese = ''] = table('数'.repeat(60));
  t.regex(chinese, /^n {5}数+… ? {2}数+…$/);
  t.true(chinese.length < 60);
  const [, tooWide = ''] = table('/x'.repeat(40), 'n'.repeat(100));
  t.true(tooWide.startsWith('n'.repeat(100)), 'other columns are never truncated');
});

test('a table that does not fit into a narrow terminal becomes blocks, in which nothing is lost', (t) => {
  const columns = [
    { title: 'NAME', text: ({ name }: Row) => name },
    { title: 'THE SIZE', text: ({ size }: Row) => size },
  ] as const;
  const table = (columnsOfTerminal: number, options = {}): string =>
    formatTable(
      terminalFor({ isTTY: true, NO_COLOR: '1', columns: columnsOfTerminal }),
      [
        { name: 'n'.repeat(45), size: '1Gi' },
        { name: 'other', size: '' },
      ],
      columns,
      options,
    );
  t.is(
    table(50),
    [`NAME      ${'n'.repeat(40)}`, '          nnnnn', 'THE SIZE  1Gi', '', 'NAME      other'].join(
      '\n',
    ),
  );
  t.regex(table(59), /^NAME +THE SIZE\nn{45} {2}1Gi\n/, 'it fits');
  t.true(
    table(50, { cutLines: true })
      .split('\n')
      .every((line) => line.length <= 50),
  );
});

test('an optional column that is empty is left out on a terminal only', (t) => {
  const some = [
    { title: 'NAME', text: ({ name }: Row) => name },
    { title: 'SIZE', text: ({ size }: Row) => size, isOptional: true },
  ] as const;
  const table = (isTTY: boolean, size: string): string =>
    formatTable(terminalFor({ isTTY, NO_COLOR: '1' }), [{ name: 'n', size }], some);
  t.is(table(true, ''), 'NAME\nn');
  t.is(table(true, '1Gi'), 'NAME  SIZE\nn     1Gi');
  t.is(table(false, ''), 'NAME  SIZE\nn     -');
});

test('names that are not one word in a shell are printed as ids', (t) => {
  const rowsOf = (...names: readonly string[]) => names.map((name) => ({ name, id: `id-${name}` }));
  t.is(toNames(rowsOf('data', 'pvc-1', 'a b')), 'data\npvc-1\nid-a b');
  t.is(toNames({ name: 'x' }), 'x');
  t.is(toNames([]), '');
  t.throws(() => toNames({ version: '1' }), { message: /has no name/ });
});

test('YAML has the values of the JSON', async (t) => {
  t.is(
    await toYaml([{ a: 2n ** 60n, b: [1n], c: null }]),
    '- a: "1152921504606846976"\n  b:\n    - 1\n  c: null',
  );
});

test('empty fields are omitted, and several values get a line each', (t) => {
  const text = formatFields(terminalFor({ isTTY: false }), [
    ['Name', 'data'],
    ['Source', ''],
    ['Mounted at', ['/a', '/b']],
    ['Staged at', []],
  ]);
  t.is(text, 'Name:        data\nMounted at:  /a\n             /b');
});

test('byte counts are JSON numbers up to 2^53 - 1, and strings above', (t) => {
  const value = { small: 2n ** 53n - 1n, large: 2n ** 60n };
  t.deepEqual(JSON.parse(toJson(value)), {
    small: 9_007_199_254_740_991,
    large: '1152921504606846976',
  });
});

test('count adds a plural s unless the number is one', (t) => {
  t.is(count(1, 'volume'), '1 volume');
  t.is(count(0, 'volume'), '0 volumes');
});

test('the progress line has a bar when the total is known', (t) => {
  t.is(progressLine('copying', undefined, 2_500), 'copying … 2 s');
  t.is(
    progressLine('copying', { doneBytes: GiB, totalBytes: 4n * GiB }, 10_000),
    'copying [######------------------] 25 %, 1Gi of 4Gi, 10 s',
  );
  t.regex(
    progressLine('copying', { doneBytes: 5n * GiB, totalBytes: 4n * GiB }, 0),
    /\[#{24}\] 100 %, 4Gi of 4Gi/,
  );
});

test('in a pipe there is no progress line', async (t) => {
  const stderr = new PassThrough();
  const streams = { stdin: new PassThrough(), stdout: new PassThrough(), stderr };
  const terminal = new Terminal(streams, {});
  t.is(await withProgress(terminal, 'work', async () => 7), 7);
  t.is(stderr.read(), null);
});

test('on a terminal the progress line is drawn for long work and erased at its end', async (t) => {
  const stderr = Object.assign(new PassThrough(), { isTTY: true, columns: 20 });
  const streams = { stdin: new PassThrough(), stdout: new PassThrough(), stderr };
  let shown = '';
  const drawn = new Promise<void>((resolve) => {
    stderr.on('data', (bytes: Buffer) => {
      shown += bytes.toString();
      resolve();
    });
  });
  await withProgress(new Terminal(streams, {}), 'a line longer than the terminal', () => drawn);
  await new Promise((resolve) => setImmediate(resolve));
  t.is(shown, '\r\u001b[Ka line longer than \r\u001b[K');
});

test('polled progress is drawn, and a failed poll keeps the line', async (t) => {
  const stderr = Object.assign(new PassThrough(), { isTTY: true, columns: 0 });
  const streams = { stdin: new PassThrough(), stdout: new PassThrough(), stderr };
  let polls = 0;
  const poll = async () => {
    polls += 1;
    if (polls > 1) throw new Error('the driver is busy');
    return { doneBytes: GiB, totalBytes: 2n * GiB };
  };
  const drawn = new Promise<void>((resolve) => {
    stderr.on('data', (bytes: Buffer) => {
      if (bytes.toString().includes('50 %, 1Gi of 2Gi') && polls > 1) resolve();
    });
  });
  await withProgress(new Terminal(streams, {}), 'copying', () => drawn, poll);
  t.true(polls > 1);
});

const expanded = { name: 'v', size_bytes: GiB, fs_type: 'ext4', staged_at: [], published_at: [] };
const expansions = [
  {
    of: expanded,
    message:
      /^The size of volume 'v' is now 1Gi\. It is not mounted: its ext4 filesystem grows when it is mounted\.$/,
  },
  {
    of: { ...expanded, staged_at: ['/own'] },
    message: /, but its ext4 filesystem cannot .* Restart /,
  },
  {
    of: { ...expanded, staged_at: ['/s'], published_at: ['/p'] },
    message: /, but its ext4 filesystem cannot .* Unmount the volume and mount it again\.$/,
  },
];
for (const { of, message } of expansions) {
  test(`expansionMessage: ${message}`, (t) => {
    t.is(expansionMessage(of, false), "The size of volume 'v' is now 1Gi.");
    t.regex(expansionMessage(of, true), message);
  });
}
