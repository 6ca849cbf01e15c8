import test from 'ava';
import { VolumeError } from '../../../../src/errors.ts';
import { noLimits } from '../../../../src/host/loop/io-limits.ts';
import { GiB, MiB } from '../../../../src/units.ts';
import {
  parseInlineAttributes,
  parseParameters,
  parsePoolOfClass,
  parsePoolParameter,
} from '../../../../src/volumes/parameters/storage-class.ts';

test('without parameters a volume is thin, is trimmed periodically, uses direct I/O, and has no fixed sector size', (t) => {
  t.deepEqual(parseParameters({}, 'ext4'), {
    pool: undefined,
    provisioning: 'thin',
    mkfsOptions: [],
    sectorSize: undefined,
    trim: 'periodic',
    directIo: true,
    limits: noLimits,
  });
});

test('every parameter is parsed', (t) => {
  const parameters = {
    pool: 'fast',
    provisioning: 'thin',
    mkfsOptions: '-i 65536  -L data',
    sectorSize: '512',
    trim: 'online',
    directIO: 'false',
    readBytesPerSecond: '10Mi',
    writeBytesPerSecond: 'max',
    readIops: '2k',
    writeIops: '10',
    'csi.storage.k8s.io/pvc/name': 'x',
  };
  t.deepEqual(parseParameters(parameters, 'ext4'), {
    pool: 'fast',
    provisioning: 'thin',
    mkfsOptions: ['-i', '65536', '-L', 'data'],
    sectorSize: 512,
    trim: 'online',
    directIo: false,
    limits: {
      readBytesPerSecond: 10n * MiB,
      writeBytesPerSecond: null,
      readIops: 2000n,
      writeIops: 10n,
    },
  });
});

test('a thick volume is not trimmed by default', (t) => {
  t.like(parseParameters({ provisioning: 'thick' }, 'xfs'), { provisioning: 'thick', trim: 'off' });
  t.notThrows(() => parseParameters({ provisioning: 'thick', trim: 'off' }, 'xfs'));
});

const invalid = [
  {
    name: 'an unknown key',
    parameters: { Pool: 'a' },
    message: /'Pool' is not known; known keys: pool/,
  },
  {
    name: "another driver's key",
    parameters: { 'storageClass.io/x': 'a' },
    message: /is not known/,
  },
  {
    name: 'a pool name in capitals',
    parameters: { pool: 'Fast' },
    message: /'Fast' is not a pool name/,
  },
  {
    name: 'a path as pool name',
    parameters: { pool: '../a' },
    message: /'\.\.\/a' is not a pool name/,
  },
  { name: 'an empty pool name', parameters: { pool: '' }, message: /'' is not a pool name/ },
  {
    name: 'an unknown provisioning',
    parameters: { provisioning: 'fat' },
    message: /'fat' is not allowed; allowed values: thin, thick/,
  },
  { name: 'a sector size of 1024', parameters: { sectorSize: '1024' }, message: /4096, 512/ },
  { name: 'trim=yes', parameters: { trim: 'yes' }, message: /periodic, online, off/ },
  {
    name: 'trim of a thick volume',
    parameters: { provisioning: 'thick', trim: 'online' },
    message: /omit trim/,
  },
  { name: 'directIO=on', parameters: { directIO: 'on' }, message: /true, false/ },
  {
    name: 'an mkfs flag that is not allowed',
    parameters: { mkfsOptions: '-F' },
    message: /'-F' is not allowed/,
  },
  {
    name: 'an mkfs flag of another filesystem',
    parameters: { mkfsOptions: '--csum sha256' },
    message: /not allowed/,
  },
] as const;
for (const { name, parameters, message } of invalid) {
  test(`parameters with ${name} are refused`, (t) => {
    const error = t.throws(() => parseParameters({ ...parameters }, 'ext4'), {
      instanceOf: VolumeError,
    });
    t.is(error?.reason, 'invalid');
    t.regex(error?.message ?? '', message);
  });
}

test('mkfs options are refused for a block volume, unless they are empty', (t) => {
  t.throws(() => parseParameters({ mkfsOptions: '-L a' }, null), { message: /no filesystem/ });
  t.deepEqual(parseParameters({ mkfsOptions: '  ' }, null).mkfsOptions, []);
});

test('parsePoolParameter returns the pool and refuses unknown keys', (t) => {
  t.is(parsePoolParameter({ pool: 'a', mkfsOptions: '-F' }), 'a');
  t.is(parsePoolParameter({}), undefined);
  t.throws(() => parsePoolParameter({ pol: 'a' }), { instanceOf: VolumeError });
});

test('a class with an unknown pool or key gets capacity of any pool, so that CreateVolume can refuse it', (t) => {
  const pools = ['fast', 'bulk'];
  t.is(parsePoolOfClass({ pool: 'bulk' }, pools), 'bulk');
  t.is(parsePoolOfClass({ pool: 'missing' }, pools), undefined);
  t.is(parsePoolOfClass({ poool: 'bulk' }, pools), undefined);
});

test('attributes of an inline volume are parsed, and wrong ones are refused', (t) => {
  const fromKubelet = {
    'csi.storage.k8s.io/ephemeral': 'true',
    'csi.storage.k8s.io/pod.uid': 'u',
    'storage.kubernetes.io/x': 'y',
  };
  t.like(parseInlineAttributes(fromKubelet), { sizeBytes: undefined });
  const { sizeBytes, settings } = parseInlineAttributes({ size: '2Gi', pool: 'a', ...fromKubelet });
  t.is(sizeBytes, 2n * GiB);
  t.is(settings.pool, 'a');
  for (const refused of [
    { size: '2 Gb!' },
    { size: '-1' },
    { size: '0' },
    { mkfsOptions: '-L a' },
    { Size: '1Gi' },
  ]) {
    t.throws(() => parseInlineAttributes(refused), { instanceOf: VolumeError });
  }
});
