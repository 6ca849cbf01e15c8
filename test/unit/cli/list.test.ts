import { PassThrough } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import test from 'ava';
import { Command } from 'commander';
import { addListOptions, type Listing, showList, sortRows } from '../../../src/cli/list.ts';
import { type GlobalOptions, Session } from '../../../src/cli/session.ts';
import { Terminal } from '../../../src/cli/terminal.ts';

interface Row {
  readonly name: string;
  readonly bytes: bigint;
}
const rows: readonly Row[] = [
  { name: 'v10', bytes: 9n },
  { name: 'v2', bytes: 10n },
  { name: 'v1', bytes: 9n },
];
const columns = [
  { title: 'NAME', text: ({ name }: Row) => name },
  { title: 'THE SIZE', text: ({ bytes }: Row) => `${bytes}B`, sortBy: ({ bytes }: Row) => bytes },
  { title: 'ID', text: ({ name }: Row) => `id-${name}`, isWide: true },
] as const;

const orders = [
  { options: {}, names: ['v10', 'v2', 'v1'] },
  { options: { reverse: true }, names: ['v1', 'v2', 'v10'] },
  { options: { sort: 'name' }, names: ['v1', 'v2', 'v10'] },
  { options: { sort: 'the-size' }, names: ['v10', 'v1', 'v2'] },
  { options: { sort: 'the-size', reverse: true }, names: ['v2', 'v1', 'v10'] },
] as const;
for (const { options, names } of orders) {
  test(`sortRows: ${JSON.stringify(options)}`, (t) => {
    t.deepEqual(
      sortRows(rows, columns, options).map(({ name }) => name),
      [...names],
    );
  });
}

test('--sort accepts the names of the columns only', (t) => {
  const list = addListOptions(new Command('list').exitOverride(), columns).configureOutput({
    writeErr: () => undefined,
  });
  t.like(list.parse(['--sort', 'the-size', '-r'], { from: 'user' }).opts(), {
    sort: 'the-size',
    reverse: true,
  });
  t.throws(() => list.parse(['--sort', 'colour'], { from: 'user' }), {
    message: /Allowed choices are name, the-size, id/,
  });
});

function started(
  options: GlobalOptions,
  screen: { isTTY?: boolean; rows?: number; columns?: number } = {},
) {
  const stdout = Object.assign(new PassThrough(), screen);
  const terminal = new Terminal(
    { stdin: new PassThrough(), stdout, stderr: new PassThrough() },
    { NO_COLOR: '1' },
  );
  const session = new Session({ terminal, environment: {}, version: '1' });
  session.options = options;
  return { session, shown: () => (stdout.read() as Buffer | null)?.toString() ?? '' };
}

function listing(load: () => Promise<readonly Row[]>): Listing<Row> {
  return {
    load,
    columns,
    asJson: ({ name, bytes }) => ({ name, bytes }),
    whenEmpty: 'nothing yet',
    remarks: (all) => [`${all.length} in all`],
  };
}

const formats = [
  { options: {}, text: /^NAME {2}THE_SIZE\nv10 [^]*\n3 in all\n$/ },
  { options: { output: 'wide' }, text: /^NAME {2}THE_SIZE {2}ID\nv10 {3}9B {8}id-v10\n/ },
  { options: { output: 'name' }, text: /^v10\nv2\nv1\n$/ },
  { options: { json: true }, text: /^\[\n {2}\{\n {4}"name": "v10",\n {4}"bytes": 9\n/ },
  { options: { output: 'yaml' }, text: /^- name: v10\n {2}bytes: 9\n- / },
] as const;
for (const { options, text } of formats) {
  test(`showList: ${JSON.stringify(options)}`, async (t) => {
    const { session, shown } = started(options);
    await showList(
      session,
      listing(async () => rows),
      {},
    );
    t.regex(shown(), text);
  });
}

test('an empty list is a sentence on a terminal, a title in a pipe, and nothing with --quiet', async (t) => {
  const none = listing(async () => []);
  const onTerminal = started({}, { isTTY: true });
  await showList(onTerminal.session, none, {});
  t.is(onTerminal.shown(), 'nothing yet\n');
  const inPipe = started({});
  await showList(inPipe.session, none, {});
  t.is(inPipe.shown(), 'NAME  THE_SIZE\n0 in all\n');
  await showList(inPipe.session, none, { quiet: true });
  t.is(inPipe.shown(), '');
});

/** Lists these results one after the other with --watch; the load after the last one fails, which ends the command. */
async function watched(
  options: GlobalOptions,
  results: readonly (readonly Row[])[],
  screen = {},
): Promise<string> {
  const left = [...results];
  const { session, shown } = started(options, screen);
  const load = async () => {
    const next = left.shift();
    if (next === undefined) throw new Error('the end');
    return next;
  };
  await showList(session, listing(load), { watch: true, intervalMs: 1 }).catch(() => undefined);
  await setImmediate();
  return shown();
}

test('--watch prints a list again when it changes, with --json on one line', async (t) => {
  const text = await watched({ json: true }, [
    rows.slice(0, 1),
    rows.slice(0, 1),
    rows.slice(1, 2),
  ]);
  t.is(text, '[{"name":"v10","bytes":9}]\n[{"name":"v2","bytes":10}]\n');
});

test('--watch on a terminal redraws the list in place, as many lines as fit', async (t) => {
  const text = await watched({}, [rows, rows.slice(1)], { isTTY: true, rows: 4 });
  const lines = (...all: readonly string[]): string =>
    `\u001b[H${all.map((line) => `\u001b[K${line}\n`).join('')}\u001b[J`;
  t.is(
    text,
    lines('NAME  THE SIZE', 'v10   9B', '… 3 more lines') +
      lines('NAME  THE SIZE', 'v2    10B', '… 2 more lines'),
  );
});

test('--watch on a terminal cuts rows and wraps remarks that are wider than it, since the redraw counts lines', async (t) => {
  const screen = { isTTY: true, columns: 7 };
  t.is(
    await watched({}, [rows.slice(0, 1)], screen),
    '\u001b[H\u001b[KNAME  …\n\u001b[Kv10   …\n\u001b[K1 in al\n\u001b[Kl\n\u001b[J',
  );
  t.regex(await watched({ output: 'wide' }, [rows.slice(0, 1)], screen), /Kv10 {3}…$/m);
  const { session, shown } = started({}, screen);
  await showList(
    session,
    listing(async () => rows),
    {},
  );
  t.regex(shown(), /^THE SIZE {2}10B$/m, 'without --watch, lines are complete');
});
