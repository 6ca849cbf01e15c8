import test from 'ava';
import {
  ownerFields,
  ownerOf,
  ownerText,
  podIn,
  podParameters,
  snapshotFields,
  snapshotOwnerOf,
} from '../../../src/volumes/owner.ts';

const prefix = 'csi.storage.k8s.io/';

/** Parameters of a request with these keys of Kubernetes. */
function keys(values: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(values).map(([key, value]) => [prefix + key, value]));
}

const claim = keys({ 'pvc/namespace': 'default', 'pvc/name': 'data', 'pv/name': 'pvc-1' });

test('the owner of a volume is the claim that the provisioner names', (t) => {
  const owner = ownerOf({ parameters: { pool: 'fast', ...claim } });
  t.deepEqual(owner, {
    namespace: 'default',
    claim: 'data',
    persistentVolume: 'pvc-1',
    pod: '',
  });
  t.is(owner && ownerText(owner), 'claim default/data');
  t.deepEqual(ownerFields(owner), { namespace: 'default', claim: 'data' });
});

test('the owner of an inline volume is its pod', (t) => {
  const pod = { namespace: 'default', name: 'web-0', uid: '0c7f5d8e-0000-4000-8000-000000000000' };
  const owner = ownerOf({ parameters: podParameters(pod) });
  t.deepEqual(owner, { namespace: 'default', claim: '', persistentVolume: '', pod: 'web-0' });
  t.is(owner && ownerText(owner), 'pod default/web-0');
  t.deepEqual(ownerFields(owner), { namespace: 'default', pod: 'web-0' });
  t.deepEqual(podIn(podParameters(pod)), pod);
});

const ownerless = [
  { name: 'a request without keys of Kubernetes', parameters: { pool: 'fast' } },
  { name: 'a claim without its namespace', parameters: keys({ 'pvc/name': 'data' }) },
  { name: 'a namespace without a claim', parameters: keys({ 'pvc/namespace': 'default' }) },
  {
    name: 'a name with a control character',
    parameters: keys({ 'pvc/namespace': 'default', 'pvc/name': 'data\u001b[2J' }),
  },
  {
    name: 'a name with a line break',
    parameters: keys({ 'pvc/namespace': 'default', 'pvc/name': 'data\nx' }),
  },
  { name: 'a name with a slash', parameters: keys({ 'pvc/namespace': 'a/b', 'pvc/name': 'data' }) },
  {
    name: 'a name of 254 characters',
    parameters: keys({ 'pvc/namespace': 'default', 'pvc/name': 'a'.repeat(254) }),
  },
] as const;
for (const { name, parameters } of ownerless) {
  test(`no owner: ${name}`, (t) => {
    t.is(ownerOf({ parameters }), undefined);
    t.deepEqual(ownerFields(ownerOf({ parameters })), {});
  });
}

test('a name of 253 characters is a claim, with or without a persistent volume', (t) => {
  const name = `a.${'b'.repeat(250)}1`;
  const parameters = keys({ 'pvc/namespace': 'n', 'pvc/name': name, 'pv/name': 'PV' });
  t.deepEqual(ownerOf({ parameters }), {
    namespace: 'n',
    claim: name,
    persistentVolume: '',
    pod: '',
  });
});

test('a pod without a name that Kubernetes allows is no pod, and a bad uid is left out', (t) => {
  t.is(podIn(keys({ 'pod.namespace': 'default', 'pod.name': 'Web 0' })), undefined);
  t.is(podIn(keys({ 'pod.name': 'web-0' })), undefined);
  const context = keys({ 'pod.namespace': 'n', 'pod.name': 'web-0', 'pod.uid': '../..' });
  t.deepEqual(podIn(context), { namespace: 'n', name: 'web-0', uid: '' });
});

const snapshots = [
  {
    name: 'a VolumeSnapshot',
    parameters: keys({
      'volumesnapshot/namespace': 'default',
      'volumesnapshot/name': 'monday',
      'volumesnapshotcontent/name': 'snapcontent-1',
    }),
    owner: {
      namespace: 'default',
      volumeSnapshot: 'monday',
      volumeSnapshotContent: 'snapcontent-1',
      volumeGroupSnapshot: '',
    },
    fields: { namespace: 'default', volumeSnapshot: 'monday' },
  },
  {
    name: 'a VolumeGroupSnapshot',
    parameters: keys({
      'volumegroupsnapshot/namespace': 'default',
      'volumegroupsnapshot/name': 'all',
      'volumegroupsnapshotcontent/name': 'groupsnapcontent-1',
    }),
    owner: {
      namespace: 'default',
      volumeSnapshot: '',
      volumeSnapshotContent: '',
      volumeGroupSnapshot: 'all',
    },
    fields: { namespace: 'default', volumeGroupSnapshot: 'all' },
  },
  { name: 'none', parameters: { freeze: 'yes' }, owner: undefined, fields: {} },
] as const;
for (const { name, parameters, owner, fields } of snapshots) {
  test(`the owner of a snapshot: ${name}`, (t) => {
    const found = snapshotOwnerOf({ parameters });
    t.deepEqual(found, owner);
    t.deepEqual(snapshotFields(found), fields);
  });
}
