import test from 'ava';
import { parseArguments } from '../../vm/arguments.ts';
import { hostArchitecture } from '../../vm/machine/architecture.ts';

const usual = { release: 'bookworm', architecture: hostArchitecture } as const;
const all = { kind: 'suites', machine: usual, only: '', isSample: false } as const;
const cases = [
  { words: [], expect: all },
  { words: ['--tap'], expect: all },
  { words: ['--only', 'growth'], expect: { ...all, only: 'growth' } },
  {
    words: ['--sample', '--release', 'trixie'],
    expect: { ...all, isSample: true, machine: { ...usual, release: 'trixie' } },
  },
  { words: ['--arch', 'amd64'], expect: { ...all, machine: { ...usual, architecture: 'amd64' } } },
  {
    words: ['--arch=arm64', '--release=trixie'],
    expect: { ...all, machine: { release: 'trixie', architecture: 'arm64' } },
  },
  { words: ['--shell'], expect: { kind: 'shell', machine: usual } },
  {
    words: ['--shell', '--release=sid'],
    expect: { kind: 'shell', machine: { ...usual, release: 'sid' } },
  },
  { words: ['--list', '--only', 'x'], expect: { kind: 'list' } },
] as const;
for (const { words, expect } of cases) {
  test(`test:vm ${words.join(' ') || 'without words'}`, (t) => {
    t.deepEqual(parseArguments(words), expect);
  });
}

const refused = [
  { words: ['--release', 'buster'], says: /no release buster: use bookworm, trixie, sid/ },
  { words: ['--arch', 'arm'], says: /no architecture arm: use amd64, arm64/ },
  { words: ['--arch', 'x86_64', '--list'], says: /no architecture x86_64/ },
  { words: ['--only'], says: /--only/ },
  { words: ['growth'], says: /growth/ },
  { words: ['--sampel'], says: /--sampel/ },
] as const;
for (const { words, says } of refused) {
  test(`test:vm ${words.join(' ')} is refused`, (t) => {
    t.throws(() => parseArguments(words), { message: says });
  });
}
