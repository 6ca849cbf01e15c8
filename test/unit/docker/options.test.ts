import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import {
  knownOptions,
  type Options,
  optionsAsMarkdown,
  parseOptions,
} from '../../../src/docker/options.ts';
import { VolumeError } from '../../../src/errors.ts';
import { GiB, MiB } from '../../../src/units.ts';
import type { FoundSource } from '../../../src/volumes/docker/volumes.ts';

const aSnapshot: FoundSource = {
  source: { kind: 'snapshot', id: 's.0123abcd' },
  kind: 'mount',
  fsType: 'xfs',
  sizeBytes: 2n * GiB,
  pool: 'fast',
};

const parse = (options: Options, source: FoundSource = aSnapshot) =>
  parseOptions('v', options, {
    defaultFsType: 'ext4',
    findSource: (name) => {
      if (name === 's') return source;
      throw new VolumeError('not-found', `there is no volume or snapshot '${name}' on this node`);
    },
  });

test('without options the driver’s defaults are used', (t) => {
  t.like(parse({}), {
    name: 'v',
    kind: 'mount',
    fsType: 'ext4',
    range: { requiredBytes: 0n, limitBytes: 0n },
    source: null,
    mountOptions: [],
    settings: { pool: undefined, provisioning: 'thin', trim: 'periodic', sectorSize: undefined },
  });
});

test('every option is passed on', (t) => {
  const input = parse({
    size: '64Mi',
    fstype: 'ext4',
    pool: 'bulk',
    provisioning: 'thick',
    mkfsOptions: '-i 8192',
    mountOptions: 'noatime, nodev,',
  });
  t.like(input, { range: { requiredBytes: 64n * MiB }, fsType: 'ext4' });
  t.like(input.settings, { pool: 'bulk', provisioning: 'thick', trim: 'off' });
  t.deepEqual(input.settings.mkfsOptions, ['-i', '8192']);
  t.deepEqual(input.mountOptions, ['noatime', 'nodev']);
  t.deepEqual(input.parameters, { pool: 'bulk', provisioning: 'thick', mkfsOptions: '-i 8192' });
});

test('a copy takes size, filesystem and pool from its source by default', (t) => {
  const copy = parse({ from: 's' });
  t.like(copy, { fsType: 'xfs', range: { requiredBytes: 2n * GiB } });
  t.deepEqual(copy.source, { kind: 'snapshot', id: 's.0123abcd' });
  t.is(copy.settings.pool, 'fast');
  const larger = parse({ from: 's', size: '3Gi', pool: 'bulk' });
  t.is(larger.range.requiredBytes, 3n * GiB);
  t.is(larger.settings.pool, 'bulk');
});

const refused: readonly { options: Options; source?: FoundSource; message: RegExp }[] = [
  {
    options: { sise: '1Gi' },
    message: /^option 'sise' is not known; known options: size, fstype, pool, /,
  },
  { options: { Size: '1Gi' }, message: /^option 'Size' is not known/ },
  { options: { constructor: '1' }, message: /^option 'constructor' is not known/ },
  {
    options: JSON.parse('{"__proto__":"1"}') as Options,
    message: /^option '__proto__' is not known/,
  },
  { options: { size: 'big' }, message: /^option size: 'big' is not a size; use a value such as/ },
  { options: { size: '10g' }, message: /^option size: '10g' is not a size/ },
  { options: { size: '10' }, message: /^option size: '10' has no unit; did you mean 10Gi or 10Mi/ },
  { options: { size: '-1' }, message: /^option size: '-1' is not a size/ },
  { options: { size: '' }, message: /^option size: '' is not a size/ },
  { options: { size: '0' }, message: /^option size '0' must be greater than 0/ },
  {
    options: { fstype: 'zfs' },
    message: /^option fstype 'zfs' is not supported; use one of ext4/,
  },
  { options: { fstype: '' }, message: /^option fstype '' is not supported/ },
  { options: { pool: '../x' }, message: /pool '\.\.\/x' is not a pool name/ },
  { options: { provisioning: 'fat' }, message: /provisioning 'fat' is not allowed/ },
  { options: { mkfsOptions: '-d /etc' }, message: /-d/ },
  { options: { from: 'nobody' }, message: /^there is no volume or snapshot 'nobody'/ },
  { options: { from: '' }, message: /^option from '' contains no name/ },
  { options: { from: 'volume:' }, message: /^option from 'volume:' contains no name/ },
  {
    options: { from: 's' },
    source: { ...aSnapshot, kind: 'block', fsType: null },
    message: /^option from 's' names a raw block snapshot/,
  },
];
for (const { options, source, message } of refused) {
  test(`options are refused: ${JSON.stringify(options)}${source === undefined ? '' : ' of a block volume'}`, (t) => {
    const error = t.throws(() => parse(options, source), { instanceOf: VolumeError });
    t.regex(error.message, message);
  });
}

test('limits are parameters of the volume', (t) => {
  const { settings, parameters } = parse({ writeBytesPerSecond: '1Mi', readIops: 'max' });
  t.like(settings.limits, { writeBytesPerSecond: 1n << 20n, readIops: null, writeIops: null });
  t.deepEqual(parameters, { writeBytesPerSecond: '1Mi', readIops: 'max' });
});

test('docs/docker.md has the table of options', async (t) => {
  const path = join(import.meta.dirname, '..', '..', '..', '..', 'docs', 'docker.md');
  const docs = await readFile(path, 'utf8');
  t.true(docs.includes(optionsAsMarkdown()), `the table must be:\n\n${optionsAsMarkdown()}`);
  t.is(Object.keys(knownOptions).length, 11);
});
