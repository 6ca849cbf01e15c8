import test from 'ava';
import { VolumeError } from '../../../../src/errors.ts';
import { GiB } from '../../../../src/units.ts';
import {
  parseInlineAttributes,
  parseParameters,
  parsePoolOfClass,
  parsePoolParameter,
} from '../../../../src/volumes/parameters/storage-class.ts';

test('nothing said: thin, periodic, direct, the sectors left open', (t) => {
  t.deepEqual(parseParameters({}, 'ext4'), {
    pool: undefined,
    provisioning: 'thin',
    mkfsOptions: [],
    sectorSize: undefined,
    trim: 'periodic',
    directIo: true,
  });
});

test('everything said', (t) => {
  const parameters = {
    pool: 'fast',
    provisioning: 'thin',
    mkfsOptions: '-i 65536  -L data',
    sectorSize: '512',
    trim: 'online',
    directIO: 'false',
    'csi.storage.k8s.io/pvc/name': 'x',
  };
  t.deepEqual(parseParameters(parameters, 'ext4'), {
    pool: 'fast',
    provisioning: 'thin',
    mkfsOptions: ['-i', '65536', '-L', 'data'],
    sectorSize: 512,
    trim: 'online',
    directIo: false,
  });
});

test('a thick volume is not trimmed unless asked, and asking is refused', (t) => {
  t.like(parseParameters({ provisioning: 'thick' }, 'xfs'), { provisioning: 'thick', trim: 'off' });
  t.notThrows(() => parseParameters({ provisioning: 'thick', trim: 'off' }, 'xfs'));
});

const wrong = [
  {
    name: 'an unknown key',
    parameters: { Pool: 'a' },
    says: /'Pool' is not known; known keys: pool/,
  },
  { name: "another driver's key", parameters: { 'storageClass.io/x': 'a' }, says: /is not known/ },
  { name: 'a pool in capitals', parameters: { pool: 'Fast' }, says: /'Fast' is not a pool name/ },
  {
    name: 'a pool that is a path',
    parameters: { pool: '../a' },
    says: /'\.\.\/a' is not a pool name/,
  },
  { name: 'an empty pool', parameters: { pool: '' }, says: /'' is not a pool name/ },
  {
    name: 'fat',
    parameters: { provisioning: 'fat' },
    says: /'fat' is not allowed; allowed values: thin, thick/,
  },
  { name: 'a sector of 1024', parameters: { sectorSize: '1024' }, says: /4096, 512/ },
  { name: 'trim: yes', parameters: { trim: 'yes' }, says: /periodic, online, off/ },
  {
    name: 'thick and trimmed',
    parameters: { provisioning: 'thick', trim: 'online' },
    says: /omit trim/,
  },
  { name: 'directIO: on', parameters: { directIO: 'on' }, says: /true, false/ },
  {
    name: 'a flag of mkfs that is not listed',
    parameters: { mkfsOptions: '-F' },
    says: /'-F' is not allowed/,
  },
  {
    name: 'a flag of another filesystem',
    parameters: { mkfsOptions: '--csum sha256' },
    says: /not allowed/,
  },
] as const;
for (const { name, parameters, says } of wrong) {
  test(`refused: ${name}`, (t) => {
    const error = t.throws(() => parseParameters({ ...parameters }, 'ext4'), {
      instanceOf: VolumeError,
    });
    t.is(error?.reason, 'invalid');
    t.regex(error?.message ?? '', says);
  });
}

test('refused: mkfs options for a block volume; empty ones are none', (t) => {
  t.throws(() => parseParameters({ mkfsOptions: '-L a' }, null), { message: /no filesystem/ });
  t.deepEqual(parseParameters({ mkfsOptions: '  ' }, null).mkfsOptions, []);
});

test('the pool alone, for capacity', (t) => {
  t.is(parsePoolParameter({ pool: 'a', mkfsOptions: 'whatever' }), 'a');
  t.is(parsePoolParameter({}), undefined);
  t.throws(() => parsePoolParameter({ pol: 'a' }), { instanceOf: VolumeError });
});

test('a class that no node can serve asks for any pool, so that CreateVolume gets to refuse it', (t) => {
  const pools = ['fast', 'bulk'];
  t.is(parsePoolOfClass({ pool: 'bulk' }, pools), 'bulk');
  t.is(parsePoolOfClass({ pool: 'nowhere' }, pools), undefined);
  t.is(parsePoolOfClass({ poool: 'bulk' }, pools), undefined);
});

test('attributes of an inline volume', (t) => {
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
