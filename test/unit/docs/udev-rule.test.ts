import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { nodeTagOf, volumeIdFor } from '../../../src/ids.ts';

const root = join(import.meta.dirname, '..', '..', '..', '..');

/** The statements of a rules file (udev(7)): pairs of key, operator and quoted value, separated by commas. */
async function rulesOf(file: string): Promise<readonly (readonly string[])[]> {
  const text = await readFile(join(root, file), 'utf8');
  return text
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => line.split(/,\s+/));
}

/** A pattern of udev: `*` matches slashes too. */
function matches(pattern: string, path: string): boolean {
  const source = pattern
    .replace(/[.+^$()|{}\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.');
  return new RegExp(`^${source}$`, 's').test(path);
}

test('the rule has valid udev syntax, and every GOTO has its LABEL', async (t) => {
  const rules = await rulesOf('contrib/udev/10-loopcsi.rules');
  const pairs = rules.flat();
  const form =
    /^(?:ACTION|SUBSYSTEM|KERNEL|ATTR\{[\w/]+\}|ENV\{\w+\}|OPTIONS|GOTO|LABEL)(?:==|!=|:=|=)"[^"]+"$/;
  for (const pair of pairs) t.regex(pair, form);
  const labels = pairs.filter((pair) => pair.startsWith('LABEL=')).map((pair) => pair.slice(6));
  for (const pair of pairs)
    if (pair.startsWith('GOTO=')) t.true(labels.includes(pair.slice(5)), pair);
});

test('the rule finds every image that the driver attaches, and no others', async (t) => {
  const patterns = (await rulesOf('contrib/udev/10-loopcsi.rules'))
    .flat()
    .flatMap((pair) => /^ATTR\{loop\/backing_file\}=="(.+)"$/.exec(pair)?.[1] ?? []);
  const isOurs = (path: string) => patterns.some((pattern) => matches(pattern, path));
  const tag = nodeTagOf('node-1');
  for (const name of ['data', 'pvc-5f1b', 'x'.repeat(300), 'Ein Name / mit *'] as const) {
    const id = volumeIdFor(name, tag);
    for (const area of ['volumes', 'ephemeral', 'snapshots']) {
      t.true(isOurs(`/var/lib/loopcsi/pools/default/${area}/${id}/disk.img`), id);
      t.true(isOurs(`/mnt/${area}/${id}/disk.img (deleted)`), id);
    }
  }
  t.true(isOurs('/srv/pool/tmp/0f3a/disk.img'));
  for (const other of [
    '/var/lib/snapd/snaps/core_1.snap',
    '/srv/disk.img',
    '/var/lib/libvirt/images/volumes/vm.img',
    '/srv/volumes/mine/disk.img',
  ]) {
    t.false(isOurs(other), other);
  }
});
