import { appendFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import type { Fact } from '../../crash/load.ts';
import { certainFacts, FactJournal } from '../../vm/power-loss/fact-journal.ts';

const fact = (name: string, text?: string): Fact => ({
  name,
  kind: 'ext4',
  version: 1,
  exists: 'yes',
  text,
  snapshots: [],
});

test('a fact is certain if its step has ended and no other has begun', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-journal-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const path = join(directory, 'journal');
  const journal = await FactJournal.make(path);
  await Promise.all([journal.begins('a'), journal.begins('b'), journal.begins('c')]);
  await journal.ends(fact('a', 'text'));
  await journal.ends(fact('b'));
  await journal.begins('b');
  await appendFile(path, '{"begins":"a');
  t.deepEqual(await certainFacts(path), [fact('a', 'text')]);
  await FactJournal.make(path);
  t.deepEqual(await certainFacts(path), []);
});

test('without an entry no fact is certain', async (t) => {
  t.deepEqual(await certainFacts('/nonexistent/journal'), []);
});
