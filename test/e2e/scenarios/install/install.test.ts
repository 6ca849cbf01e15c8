import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { attempt, run } from '../../../../scripts/command.ts';
import { blocksOf, makePrograms, type PageShell, runBlock } from '../../../helpers/run-page.ts';
import { projectRoot } from '../../cluster/cache.ts';
import { eventually } from '../../eventually.ts';
import { textAt } from '../../kube/api.ts';
import {
  chartPath,
  chartValues,
  classes,
  driverName,
  nodePods,
  release,
  systemNamespace,
} from '../../kube/chart.ts';
import { api, firstNode, helm, kubectl, layout, programs, Scenario } from '../../kube/scenario.ts';

const pluginDirectory = join(projectRoot, 'bin');
const inNamespace = ['--namespace', systemNamespace];
const immediateClasses = [classes.immediate, classes.immediateReflink];
/** What helm printed when it installed the chart. */
let notes = '';

test.serial(
  'README.md: its commands install the driver, and a pod has its volume within a minute',
  async (t) => {
    const shell = await shellOfReader(t);
    const startedAtMs = Date.now();
    let output = '';
    const blocks = await blocksOf('README.md', 'kubernetes');
    t.true(blocks.length > 0);
    for (const block of blocks) output += await runBlock(t, block, shell);
    const tookMs = Date.now() - startedAtMs;
    t.log(`${Math.round(tookMs / 1000)} s from helm install to a running pod`);
    t.true(tookMs < 60_000);
    notes = output;
    const inPod = async (script: string): Promise<string> =>
      kubectl('exec', 'writer', '--', 'sh', '-c', script);
    t.not(await inPod('cat /data/starts'), '');
    t.regex(await inPod('grep " /data " /proc/mounts'), /^\/dev\/loop\d+ \/data ext4 /);
    await checkOwner(t, shell);
    for (const block of await blocksOf('docs/kubernetes.md', 'kubernetes')) {
      await runBlock(t, block, shell);
    }
    await kubectl('delete', 'pod/writer', 'pvc/data');
  },
);

/** `kubectl loopcsi` knows whose volume it is. */
async function checkOwner(t: ExecutionContext, { environment = {} }: PageShell): Promise<void> {
  const listed = await run('kubectl', ['loopcsi', 'volumes', '--json'], { env: environment });
  const [volume] = JSON.parse(listed) as Record<string, unknown>[];
  t.like(volume, { claim: 'default/data', pods: ['default/writer'], node: firstNode.name });
}

/** kubectl, its plugin and helm as the reader has them, with the pools and the sidecars' images of the test. */
async function shellOfReader(t: ExecutionContext): Promise<PageShell> {
  const directory = await mkdtemp('/var/tmp/loopcsi-reader-');
  t.teardown(() => rm(directory, { recursive: true }));
  const values = join(directory, 'values.json');
  await writeFile(values, JSON.stringify(chartValues()));
  const bin = await makePrograms(directory, {
    kubectl: `exec ${join(programs, 'kubectl')} "$@"`,
    helm: `exec ${join(programs, 'helm')} "$@" --values ${values}`,
  });
  return {
    environment: {
      PATH: `${bin}:${pluginDirectory}:${process.env['PATH'] ?? ''}`,
      KUBECONFIG: layout.kubeconfig,
      HELM_CACHE_HOME: layout.state,
    },
  };
}

test.serial(
  'the kubelet knows the driver, its topology and its limit; the scheduler knows its capacity',
  async (t) => {
    const node = await api.until(
      'CSINode',
      '',
      firstNode.name,
      (object) => textAt(object, 'spec.drivers') !== undefined,
    );
    t.regex(
      textAt(node, 'spec.drivers') ?? '',
      new RegExp(`"topologyKeys":\\["topology.${driverName}/node"\\]`),
    );
    t.regex(textAt(node, 'spec.drivers') ?? '', /"allocatable":\{"count":\d+\}/);
    const capacities = await eventually('a capacity of every delayed class', async () => {
      const found = await api.list('CSIStorageCapacity', systemNamespace);
      return found.length >= Object.keys(classes).length - immediateClasses.length
        ? found
        : undefined;
    });
    const byClass = new Map(
      capacities.map((one) => [textAt(one, 'storageClassName'), textAt(one, 'capacity')]),
    );
    t.not(byClass.get(classes.ext4) ?? '0', '0');
    t.regex(byClass.get(classes.tiny) ?? '', /^\d+(Ki|Mi)?$/);
  },
);

test.serial('the commands of the notes work when they are pasted', async (t) => {
  const [, example = ''] = /^(kubectl apply -f - [^]*? df -h \/data)$/m.exec(notes) ?? [];
  const [wait = '', remove = ''] = ['rollout status', 'delete pod'].map(
    (words) => new RegExp(`^kubectl .*${words}.*$`, 'm').exec(notes)?.[0],
  );
  const env = { KUBECONFIG: layout.kubeconfig, PATH: `${programs}:${process.env['PATH'] ?? ''}` };
  const paste = (text: string): Promise<string> => run('sh', ['-euc', text], { env });
  t.regex(await paste(wait), /successfully rolled out/);
  t.regex(await paste(example), /^\/dev\/loop\d+ +9\d\dM .* \/data$/m);
  t.regex(await paste(remove), /persistentvolumeclaim "loopcsi-hello" deleted/);
});

test.serial('helm test: volumes work and snapshots are distributed', async (t) => {
  const { exitCode, stdout, stderr } = await helm(['test', release, ...inNamespace, '--logs']);
  t.is(exitCode, 0, stdout + stderr);
  t.regex(stdout, /volume: ok/);
  t.regex(stdout, /snapshots: .*distributed/);
});

test.serial('kubectl loopcsi doctor finds what is wrong, and names the remedy', async (t) => {
  const { environment = {} } = await shellOfReader(t);
  const problems = async (): Promise<readonly string[]> => {
    const flags = ['loopcsi', 'doctor', '--quiet', '--json'];
    const { stdout } = await attempt('kubectl', flags, { env: environment });
    const found = JSON.parse(stdout) as { name: string; message: string; remedy: string }[];
    // What the doctor of a node finds depends on this machine's kernel.
    const ofCluster = found.filter(({ name }) => !name.startsWith('node:'));
    return ofCluster.map(({ name, message, remedy }) => `${name}: ${message} -> ${remedy}`);
  };
  t.deepEqual(await problems(), []);

  const scenario = await Scenario.begin(t, 'doctor');
  await scenario.claim('unused');
  await scenario.claim('unknown-class', { storageClass: 'no-such-class' });
  await scenario.claim('too-big', { size: '900Ti' });
  await scenario.pod('big', { claims: { '/data': 'too-big' } });
  const isDefault = { 'storageclass.kubernetes.io/is-default-class': 'true' };
  await api.create('StorageClass', '', {
    metadata: { name: 'second-default', annotations: isDefault },
    provisioner: 'example.org/none',
  });
  t.teardown(() => api.delete('StorageClass', '', 'second-default'));
  const expected = [
    /^default-class: several .*second-default/,
    /^claim:doctor\/unused: no pod uses it/,
    /^claim:doctor\/unknown-class: its StorageClass 'no-such-class' does not exist/,
    /^claim:doctor\/too-big: pod doctor\/big cannot be scheduled: .* -> it requests 900Ti; the nodes offer/,
  ];
  const found = await eventually('all problems are found', async () => {
    const lines = await problems();
    const missing = expected.filter((one) => !lines.some((line) => one.test(line)));
    if (missing.length > 0) throw new Error(`${missing.join(' ')} not in ${lines.join('\n')}`);
    return lines;
  });
  t.is(found.length, expected.length, found.join('\n'));
});

test.serial('kubectl loopcsi support-bundle has the logs of every node', async (t) => {
  const { environment = {} } = await shellOfReader(t);
  const directory = await mkdtemp('/var/tmp/loopcsi-bundle-');
  t.teardown(() => rm(directory, { recursive: true }));
  const bundle = join(directory, 'bundle');
  await run('kubectl', ['loopcsi', 'support-bundle', bundle], { env: environment });
  const log = await readFile(join(bundle, 'nodes', firstNode.name, 'driver.log'), 'utf8');
  t.regex(log, /CreateVolume/);
});

test.serial('the API server accepts every manifest of the chart', async (t) => {
  const everything = {
    registrar: { enabled: true },
    updateStrategy: { type: 'OnDelete' },
    podAnnotations: { note: 'yes' },
    extraVolumes: [{ name: 'extra', emptyDir: {} }],
    networkPolicy: {
      enabled: true,
      from: [{ namespaceSelector: {} }],
      egress: [{ ports: [{ protocol: 'TCP', port: 443 }] }],
    },
    priorityClassQuota: { enabled: true },
  };
  const values = JSON.stringify(chartValues(everything));
  // Without the pod of `helm test`: admission checks its service account, which a dry run does not create.
  const flags = [...inNamespace, '--include-crds', '--skip-tests', '--values', '-'];
  const rendered = await helm(['template', 'other', chartPath, ...flags], values);
  t.is(rendered.exitCode, 0, rendered.stderr);
  const answer = await run(
    join(programs, 'kubectl'),
    ['apply', '--dry-run=server', '--validate=strict', '--filename', '-', ...inNamespace],
    { input: rendered.stdout, env: { KUBECONFIG: layout.kubeconfig } },
  );
  t.true(answer.split('\n').length > 20);
});

test.serial('health, readiness and metrics answer on the pod address', async (t) => {
  const [pod] = await api.list('Pod', systemNamespace, nodePods);
  const address = `http://${textAt(pod, 'status.podIP') ?? ''}:9736`;
  for (const path of ['/healthz', '/readyz']) {
    const response = await fetch(address + path);
    t.is(response.status, 200, `${path}: ${await response.text()}`);
  }
  const metrics = await (await fetch(`${address}/metrics`)).text();
  t.regex(metrics, /NodePublishVolume/);
});

test.serial('only the driver has the capabilities of root', async (t) => {
  const [pod] = await api.list('Pod', systemNamespace, nodePods);
  const name = pod?.metadata.name ?? '';
  const pids = await kubectl(
    'get',
    'pod',
    name,
    ...inNamespace,
    '--output',
    'jsonpath={.spec.containers[*].name}',
  );
  t.deepEqual(pids.split(' '), ['driver', 'provisioner', 'snapshotter', 'resizer']);
  const noToken = await kubectl(
    'exec',
    name,
    ...inNamespace,
    '--container',
    'driver',
    '--',
    'ls',
    '/var/run',
  );
  t.false(noToken.includes('secrets'));
});
