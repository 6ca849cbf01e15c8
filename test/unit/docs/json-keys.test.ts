import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { nodeRowOf } from '../../../src/cli/node-format.ts';
import { poolAsJson } from '../../../src/cli/pool-format.ts';
import { snapshotAsJson } from '../../../src/cli/snapshot.ts';
import { groupAsJson } from '../../../src/cli/snapshot-group.ts';
import { topAsJson } from '../../../src/cli/top.ts';
import { volumeAsJson } from '../../../src/cli/volume-format.ts';
import type {
  ControlledNode,
  GroupSnapshot,
  Pool,
  Snapshot,
  Volume,
  VolumeUsage,
} from '../../../src/csi/admin-types.ts';
import { decode, encode, messageType } from '../../../src/csi/codec.ts';

const page = readFileSync(
  join(import.meta.dirname, '..', '..', '..', '..', 'docs', 'command-line.md'),
  'utf8',
);

/** The keys that the section of a command lists after `JSON keys:`, without the explanations in parentheses. */
function documentedKeys(command: string): readonly string[] {
  const section = page.split(`\n### \`${command}`)[1]?.split('\n### ')[0] ?? '';
  const list = /JSON keys: ([^]*?)\.(?:\n\n|\n*$)/.exec(section)?.[1] ?? '';
  return [...list.replace(/\([^)]*\)/g, '').matchAll(/`(\w+)`/g)].map(([, key = '']) => key);
}

/** A message that has these fields, and the default of every other one. */
function message(name: string, fields: Readonly<Record<string, unknown>> = {}): unknown {
  const type = messageType(`loopcsi.v1.${name}`);
  return decode(type, encode(type, fields));
}

const volume = volumeAsJson(
  message('Volume', { source_snapshot_id: 's', problems: [{ reason: 'r' }] }) as Volume,
);
const snapshot = snapshotAsJson(message('Snapshot') as Snapshot);
const pool = poolAsJson(message('Pool', { abilities: {} }) as Pool);

for (const { command, output } of [
  { command: 'volume get', output: volume },
  { command: 'snapshot get', output: snapshot },
  { command: 'snapshot group get', output: groupAsJson(message('GroupSnapshot') as GroupSnapshot) },
  { command: 'pool list', output: pool },
  { command: 'node list', output: nodeRowOf(message('ControlledNode') as ControlledNode) },
  {
    command: 'top',
    output: topAsJson({ usage: message('VolumeUsage') as VolumeUsage, rates: undefined }),
  },
]) {
  test(`docs/command-line.md lists the JSON keys of ${command}, in their order`, (t) => {
    t.deepEqual(documentedKeys(command), Object.keys(output));
  });
}

for (const { key, value } of [
  { key: 'source', value: volume.source },
  { key: 'problems', value: volume.problems[0] },
  { key: 'abilities', value: pool.abilities },
]) {
  test(`docs/command-line.md lists the JSON keys of ${key}`, (t) => {
    const keys = Object.keys(value ?? {}).join(', ');
    t.regex(page, new RegExp(`\\b${key}\\b[^{]{0,60}\\{${keys}\\}`));
  });
}
