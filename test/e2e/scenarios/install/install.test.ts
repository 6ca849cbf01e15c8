import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { eventually, run } from '../../../../scripts/command.ts';
import { blocksOf, makePrograms, type PageShell, runBlock } from '../../../helpers/run-page.ts';
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
import { api, helm, kubectl, layout, programs } from '../../kube/scenario.ts';

const inNamespace = ['--namespace', systemNamespace];
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
    await kubectl('delete', 'pod/writer', 'pvc/data');
  },
);

/** kubectl and helm as the reader has them, except that all images are those of the test. */
async function shellOfReader(t: ExecutionContext): Promise<PageShell> {
  const directory = await mkdtemp('/var/tmp/loopcsi-reader-');
  t.teardown(() => rm(directory, { recursive: true }));
  const values = join(directory, 'values.json');
  await writeFile(values, JSON.stringify(chartValues(layout)));
  const images = `--values ${values} --set image.registry=localhost`;
  const bin = await makePrograms(directory, {
    kubectl: `exec ${join(programs, 'kubectl')} "$@"`,
    helm: `exec ${join(programs, 'helm')} "$@" ${images}`,
  });
  return {
    environment: {
      PATH: `${bin}:${process.env['PATH'] ?? ''}`,
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
      layout.nodeName,
      (object) => textAt(object, 'spec.drivers') !== undefined,
    );
    t.regex(
      textAt(node, 'spec.drivers') ?? '',
      new RegExp(`"topologyKeys":\\["topology.${driverName}/node"\\]`),
    );
    t.regex(textAt(node, 'spec.drivers') ?? '', /"allocatable":\{"count":\d+\}/);
    const capacities = await eventually('a capacity of every delayed class', async () => {
      const found = await api.list('CSIStorageCapacity', systemNamespace);
      return found.length >= Object.keys(classes).length - 1 ? found : undefined;
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
  const values = JSON.stringify(chartValues(layout, everything));
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
