import test from 'ava';
import { parseArguments } from '../../vm/arguments.ts';

const all = { kind: 'suites', release: 'bookworm', only: '', isSample: false } as const;
const cases = [
  { words: [], expect: all },
  { words: ['--tap'], expect: all },
  { words: ['--only', 'growth'], expect: { ...all, only: 'growth' } },
  {
    words: ['--sample', '--release', 'trixie'],
    expect: { ...all, isSample: true, release: 'trixie' },
  },
  { words: ['--shell'], expect: { kind: 'shell', release: 'bookworm' } },
  { words: ['--shell', '--release=sid'], expect: { kind: 'shell', release: 'sid' } },
  { words: ['--list', '--only', 'x'], expect: { kind: 'list' } },
] as const;
for (const { words, expect } of cases) {
  test(`test:vm ${words.join(' ') || 'without words'}`, (t) => {
    t.deepEqual(parseArguments(words), expect);
  });
}

const refused = [
  { words: ['--release', 'buster'], says: /no release buster: use bookworm, trixie, sid/ },
  { words: ['--only'], says: /--only/ },
  { words: ['growth'], says: /growth/ },
  { words: ['--sampel'], says: /--sampel/ },
] as const;
for (const { words, says } of refused) {
  test(`test:vm ${words.join(' ')} is refused`, (t) => {
    t.throws(() => parseArguments(words), { message: says });
  });
}
