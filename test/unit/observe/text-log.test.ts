import test from 'ava';
import { pino } from 'pino';
import { textFormatter } from '../../../src/observe/text-log.ts';

function logged(
  style: {
    readonly isTerminal?: boolean;
    readonly isColored?: boolean;
    readonly isJournal?: boolean;
  },
  work: (log: pino.Logger) => void,
): string {
  const lines: string[] = [];
  const toText = textFormatter({ isTerminal: false, isColored: false, isJournal: false, ...style });
  const settings = {
    base: null,
    timestamp: () => ',"time":"2026-11-27T10:24:09.127Z"',
    formatters: { level: (label: string) => ({ level: label }) },
  };
  work(pino(settings, { write: (line: string) => lines.push(toText(line)) }));
  return lines.join('');
}

test('a line has the time, the level, the message with its problem, and the other fields', (t) => {
  const text = logged({}, (log) => {
    log.warn({ pool: 'fast', problem: '/mnt/x does not exist; create it', ms: 12 }, 'not served');
  });
  t.is(
    text,
    '2026-11-27T10:24:09.127Z WARN  not served: /mnt/x does not exist; create it pool=fast ms=12\n',
  );
});

test('values that are not one word are JSON', (t) => {
  const text = logged({}, (log) => {
    log.info({ a: 'two words', b: ['x'], c: 'k=v', d: '', e: 5n }, 'done');
  });
  t.true(text.endsWith('INFO  done a="two words" b=["x"] c="k=v" d="" e=5\n'), text);
});

test('a name cannot break the line or change the terminal', (t) => {
  const name = 'a\nb\u001b[2Jc\u009b';
  const text = logged({}, (log) => {
    log.info({ problem: name, [name]: name }, name);
  });
  t.is(text.split('\n').length, 2);
  t.notRegex(text.trimEnd(), /\p{Cc}/u);
  t.regex(text, /a\\x0ab\\x1b\[2Jc\\x9b/);
});

test('the stack of an unexpected error follows on lines of its own, with its causes', (t) => {
  const text = logged({ isJournal: true }, (log) => {
    log.fatal({ err: new Error('outer', { cause: new Error('inner') }) }, 'uncaught exception');
  });
  const lines = text.trimEnd().split('\n');
  t.is(lines[0], '<2>FATAL uncaught exception');
  t.regex(lines[1] ?? '', /^<2> {6}Error: outer/);
  t.regex(text, /^<2> {6}caused by: Error: inner/m);
  t.true(lines.every((line) => line.startsWith('<2>')));
});

for (const [level, priority] of [
  ['info', 6],
  ['warn', 4],
  ['error', 3],
] as const) {
  test(`in the journal, ${level} has priority ${priority} and no time`, (t) => {
    const text = logged({ isJournal: true }, (log) => {
      log[level]('done');
    });
    t.is(text, `<${priority}>${level.toUpperCase().padEnd(5)} done\n`);
  });
}

test('on a terminal, the level has a colour, and the time is that of the day', (t) => {
  const text = logged({ isTerminal: true, isColored: true }, (log) => {
    log.error('failed');
  });
  const escape = '\u001b[';
  const visible = text.replaceAll(escape, '~');
  // The hour depends on the time zone.
  t.regex(visible, /^~2m\d\d:\d\d:09~22m ~31mERROR~39m failed/);
});

test('the whole configuration is left out', (t) => {
  const text = logged({}, (log) => {
    log.info({ version: '1.2.3', config: { pools: [] } }, 'starting');
  });
  t.true(text.endsWith('starting version=1.2.3\n'), text);
});
