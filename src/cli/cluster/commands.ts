/**
 * `loopcsi cluster`, which bin/kubectl-loopcsi makes available as `kubectl loopcsi`: commands for a whole Kubernetes cluster. They
 * run kubectl, so they need no driver on this machine.
 */
import type { Command } from 'commander';
import { formatReport } from '../doctor.ts';
import { FailedError, UsageError } from '../errors.ts';
import { addListOptions, type ListOptions, showList } from '../list.ts';
import { count } from '../output.ts';
import type { Session } from '../session.ts';
import { type Cluster, execInto, loadCluster } from './cluster.ts';
import { diagnose } from './doctor.ts';
import { type Kubectl, type KubectlOptions, makeKubectl } from './kubectl.ts';
import { listNodeVolumes } from './node-volumes.ts';
import { listNodes, columns as nodeColumns } from './nodes.ts';
import { writeBundle } from './support-bundle.ts';
import { joinVolumes, columns as volumeColumns } from './volumes.ts';

interface ClusterOptions extends KubectlOptions {
  readonly driverName: string;
}

interface Access {
  readonly kubectl: Kubectl;
  readonly load: () => Promise<Cluster>;
}

export function addClusterCommands(program: Command, session: Session): void {
  const cluster = program
    .command('cluster')
    .description("commands for a Kubernetes cluster, also as 'kubectl loopcsi'; they run kubectl")
    .option('--kubeconfig <FILE>', "as kubectl's")
    .option('--context <NAME>', "as kubectl's")
    .option('--request-timeout <DURATION>', "as kubectl's; default 20s")
    .option('--driver-name <NAME>', "driver.name of the chart's values", 'loopcsi.io');
  const access = (): Access => {
    const { driverName, ...flags } = cluster.opts<ClusterOptions>();
    const kubectl = makeKubectl(flags);
    return { kubectl, load: () => loadCluster(kubectl, driverName) };
  };
  const volumes = cluster
    .command('volumes')
    .description('list the volumes of all nodes with their claims and pods')
    .option('-n, --namespace <NAME>', 'only volumes of claims in this namespace')
    .option('--node <NAME>', 'only volumes of this node')
    .action((options: VolumesOptions) => listVolumes(session, access(), options));
  addListOptions(volumes, volumeColumns);
  const nodes = cluster
    .command('nodes')
    .description('list the nodes with their driver and its pools')
    .action((options: ListOptions) => showNodes(session, access(), options));
  addListOptions(nodes, nodeColumns);
  cluster
    .command('doctor')
    .description(
      'check the driver, its sidecars, classes, snapshots, pending claims and every node; changes nothing',
    )
    .option('--quiet', 'show only warnings and failures')
    .action((options: { quiet?: boolean }) => runDoctor(session, access(), options));
  cluster
    .command('support-bundle')
    .description(
      'collect objects, logs and checks for a report; contains no secrets, but names of claims and paths',
    )
    .argument('[directory]', 'a directory to create', defaultDirectory())
    .action((directory: string) => collect(session, access(), directory));
  cluster
    .command('run')
    .description('run a command of the driver on a node: run NODE -- volume list --json')
    .argument('<node>')
    .argument('<command...>')
    .action((node: string, command: readonly string[]) =>
      runOnNode(session, access(), node, command),
    );
}

interface VolumesOptions extends ListOptions {
  readonly namespace?: string;
  readonly node?: string;
}

async function listVolumes(
  session: Session,
  { kubectl, load }: Access,
  options: VolumesOptions,
): Promise<void> {
  let silent: readonly { readonly node: string; readonly problem: string }[] = [];
  await showList(
    session,
    {
      load: async () => {
        const cluster = await load();
        const found = await listNodeVolumes(kubectl, cluster);
        silent = found.silent;
        return joinVolumes(cluster, found).filter(
          ({ claim, node }) =>
            (options.namespace === undefined || claim.startsWith(`${options.namespace}/`)) &&
            (options.node === undefined || node === options.node),
        );
      },
      columns: volumeColumns,
      asJson: (row) => row,
      whenEmpty: 'there are no volumes',
      remarks: () => silent.map(({ node, problem }) => `node ${node} did not answer: ${problem}`),
    },
    options,
  );
}

async function showNodes(
  session: Session,
  { kubectl, load }: Access,
  options: ListOptions,
): Promise<void> {
  const listing = {
    load: async () => listNodes(kubectl, await load()),
    columns: nodeColumns,
    asJson: (row: object) => row,
    whenEmpty: 'the cluster has no nodes',
  };
  await showList(session, listing, options);
}

async function runDoctor(
  session: Session,
  { kubectl, load }: Access,
  { quiet }: { quiet?: boolean },
): Promise<void> {
  const findings = await diagnose(kubectl, await load());
  const shown = quiet === true ? findings.filter(({ state }) => state !== 'ok') : findings;
  await session.show(shown, () => formatReport(session, findings, shown));
  if (findings.some(({ state }) => state === 'fail')) {
    throw new FailedError(session.isText ? 'some checks failed; see the lines marked ✗' : '');
  }
}

function defaultDirectory(): string {
  return `loopcsi-support-${new Date().toISOString().slice(0, 19).replaceAll(':', '')}`;
}

async function collect(
  session: Session,
  { kubectl, load }: Access,
  directory: string,
): Promise<void> {
  const cluster = await load();
  const findings = await diagnose(kubectl, cluster);
  const files = await writeBundle(
    kubectl,
    cluster,
    { version: session.version, findings },
    directory,
  );
  await session.show(
    { directory, files },
    () =>
      `${directory}: ${count(files, 'file')}. It has no secrets, but names of claims, nodes and paths: look through it before you share it.`,
  );
}

async function runOnNode(
  session: Session,
  { kubectl, load }: Access,
  node: string,
  command: readonly string[],
): Promise<void> {
  const { driverPods } = await load();
  const pod = driverPods.find(({ spec }) => spec.nodeName === node);
  if (pod === undefined) {
    const known = driverPods.map(({ spec }) => spec.nodeName).join(', ');
    throw new UsageError(`no driver runs on node '${node}'; it runs on: ${known || 'no node'}`);
  }
  const { exitCode, stdout, stderr } = await kubectl.attempt(...execInto(pod, ...command));
  if (stdout !== '') session.terminal.print(stdout);
  if (exitCode !== 0) throw new FailedError(stderr.trim());
}
